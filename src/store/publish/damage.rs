//! What cannot be read in a store file.

use std::fmt;
use std::ops::{Range, RangeInclusive};

/// A stretch of a store file that cannot be read. What was in it is not handed out, and the messages around it are not
/// affected.
///
/// ```
/// use amps_client::FilePublishStore;
///
/// # fn main() -> amps_client::Result<()> {
/// # let dir = std::env::temp_dir().join(format!("amps-damage-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir).unwrap();
/// # let path = dir.join("pricer.store");
/// let store = FilePublishStore::open(&path)?;
/// for damage in store.damaged() {
///     eprintln!("{} bytes at {}: {damage}", damage.length(), damage.position());
/// }
/// # assert!(store.damaged().is_empty());
/// # std::fs::remove_dir_all(&dir).unwrap();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreDamage {
    pub(crate) position: u64,
    pub(crate) length: u64,
    pub(crate) sequences: Option<Range<u64>>,
}

impl StoreDamage {
    /// Where in the file it begins, in bytes.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// How many bytes are affected; 0 if nothing is damaged at the position but something is missing before it.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The numbers of the messages that are lost with it, if they are known.
    pub fn sequences(&self) -> Option<RangeInclusive<u64>> {
        self.sequences.as_ref().map(|lost| lost.start..=lost.end - 1)
    }
}

impl fmt::Display for StoreDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StoreDamage { position, length, sequences } = self;
        let end = position + length;
        match length {
            0 => write!(f, "something is missing before byte {position}")?,
            _ => write!(f, "the bytes {position} to {} are damaged", end - 1)?,
        }
        match sequences {
            Some(lost) if lost.end - lost.start == 1 => write!(f, ", message {} is lost", lost.start),
            Some(lost) => write!(f, ", messages {} to {} are lost", lost.start, lost.end - 1),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_says_where_it_is_and_what_is_lost() {
        let damage = |length, sequences| StoreDamage { position: 4096, length, sequences };
        for (damage, text) in [
            (damage(160, Some(7..8)), "the bytes 4096 to 4255 are damaged, message 7 is lost"),
            (damage(160, Some(7..10)), "the bytes 4096 to 4255 are damaged, messages 7 to 9 are lost"),
            (damage(160, None), "the bytes 4096 to 4255 are damaged"),
            (damage(0, Some(7..8)), "something is missing before byte 4096, message 7 is lost"),
        ] {
            assert_eq!(damage.to_string(), text);
        }
        assert_eq!(damage(1, Some(7..10)).sequences(), Some(7..=9));
    }
}
