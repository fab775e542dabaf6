//! What a publish store keeps of a message: all that is needed to send it again.
//!
//! ```text
//!  0          4            12       14
//!  ┌──────────┬────────────┬────────┬───────────┬─────────────┐
//!  │ 1 length │ sequence   │ topic  │ topic     │ payload     │   a publish with nothing but a topic
//!  └──────────┴────────────┴────────┴───────────┴─────────────┘
//!  ┌──────────┬───────────────────────────────────────────────┐
//!  │ 0 length │ header and payload, as they are sent          │   everything else
//!  └──────────┴───────────────────────────────────────────────┘
//! ```
//!
//! `length` counts what is behind it; its first bit tells the two apart. `topic` first stands for the length of the topic.
//! The numbers are big endian, as the length of a frame is.

use std::sync::Arc;

use super::StoreReplayer;
use super::entry::{Selector, StoreEntry};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::wire::block::HeaderReader;
use crate::wire::{Block, CommandType, MAX_FRAME};

/// In the length: this is a bare publish.
const BARE: u32 = 1 << 31;
/// Bytes of a bare publish before its topic.
const BEFORE_TOPIC: usize = 14;

/// A message on its way into a store.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Content<'a> {
    Bare(Bare<'a>),
    /// The frame that sends it.
    Framed(&'a [u8]),
}

/// A publish with nothing but a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bare<'a> {
    pub(crate) sequence: u64,
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
}

impl Content<'_> {
    #[inline(always)]
    pub(crate) fn size(&self) -> usize {
        match self {
            Content::Bare(bare) => bare.size(),
            Content::Framed(frame) => frame.len(),
        }
    }

    /// Writes it to a place of its size.
    #[inline(always)]
    pub(crate) fn write(&self, mut place: &mut [u8]) {
        match self {
            Content::Bare(bare @ Bare { sequence, topic, payload }) => {
                let length = BARE | (bare.size() - 4) as u32;
                put(&mut place, &length.to_be_bytes());
                put(&mut place, &sequence.to_be_bytes());
                put(&mut place, &(topic.len() as u16).to_be_bytes());
                put(&mut place, topic.as_bytes());
                put(&mut place, payload);
            }
            Content::Framed(frame) => put(&mut place, frame),
        }
    }
}

/// Writes these bytes to the front of a place, of which the rest remains.
#[inline(always)]
fn put(place: &mut &mut [u8], bytes: &[u8]) {
    if let Some((front, rest)) = std::mem::take(place).split_at_mut_checked(bytes.len()) {
        front.copy_from_slice(bytes);
        *place = rest;
    }
}

impl<'a> Bare<'a> {
    const LONGEST_TOPIC: usize = u16::MAX as usize;
    /// What fits into a frame with any such topic.
    const LARGEST_PAYLOAD: usize = MAX_FRAME as usize - (128 << 10);

    /// Whether a publish can be kept as a bare one. If so, its frame is not too large, if the topic needs no escape.
    #[inline]
    pub(crate) fn fits(topic: &str, payload: &[u8]) -> bool {
        topic.len() <= Self::LONGEST_TOPIC && payload.len() <= Self::LARGEST_PAYLOAD
    }

    #[inline(always)]
    fn size(&self) -> usize {
        BEFORE_TOPIC + self.topic.len() + self.payload.len()
    }

    /// Reads what is behind the length.
    fn read(bytes: &'a [u8]) -> Option<Bare<'a>> {
        let (sequence, topic, payload) = parts(bytes)?;
        Some(Bare { sequence, topic: std::str::from_utf8(topic).ok()?, payload })
    }
}

/// The number, the topic and the payload of a bare publish, from what is behind its length.
fn parts(bytes: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (sequence, rest) = bytes.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (topic, payload) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    Some((u64::from_be_bytes(*sequence), topic, payload))
}

/// The number, the topic and the payload of a whole content, if these bytes are that of a bare publish.
#[cfg(feature = "file-store")]
pub(crate) fn bare_parts(bytes: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let is_bare = u32::from_be_bytes(*length) ^ BARE == rest.len() as u32;
    if is_bare { parts(rest) } else { None }
}

/// Hands out the messages with these contents, which lie one behind the other.
pub(crate) fn hand_out(mut contents: &[u8], to: &mut dyn StoreReplayer) -> Result<()> {
    while !contents.is_empty() {
        let (frames, rest) = split_frames(contents)?;
        hand_out_frames(frames, to)?;
        contents = rest;
        if let Some((bare, behind)) = split_content(contents)? {
            let Bare { sequence, topic, payload } = Bare::read(bare).ok_or_else(unreadable)?;
            to.replay(sequence, &StoreEntry::new(CommandType::Publish, topic, Selector::Data(payload)))?;
            contents = behind;
        }
    }
    Ok(())
}

/// The frames at the start, and what is behind them.
fn split_frames(contents: &[u8]) -> Result<(&[u8], &[u8])> {
    let mut rest = contents;
    while rest.first().is_some_and(|byte| byte & 0x80 == 0) {
        (_, rest) = split_content(rest)?.unwrap_or_default();
    }
    Ok(contents.split_at_checked(contents.len() - rest.len()).unwrap_or_default())
}

/// The first content, without its length, and those behind it. `None` if there is none.
fn split_content(contents: &[u8]) -> Result<Option<(&[u8], &[u8])>> {
    if contents.is_empty() {
        return Ok(None);
    }
    let (length, rest) = contents.split_first_chunk().ok_or_else(unreadable)?;
    match u32::from_be_bytes(*length) & !BARE {
        0 => Err(unreadable()),
        length => rest.split_at_checked(length as usize).map(Some).ok_or_else(unreadable),
    }
}

fn hand_out_frames(frames: &[u8], to: &mut dyn StoreReplayer) -> Result<()> {
    if frames.is_empty() {
        return Ok(());
    }
    let mut block = Block::with_capacity(frames.len());
    block.copy_to_front(frames);
    let walk = block.walk(frames.len(), MAX_FRAME, &mut HeaderReader::default());
    if let Some(error) = walk.error {
        return Err(unreadable().with_source(error));
    }
    let block = Arc::new(block);
    for entry in block.entries() {
        let message = Message::new(block.clone(), *entry);
        let sequence = message.sequence().ok_or_else(unreadable)?;
        to.replay(sequence, &StoreEntry::of(&message))?;
    }
    Ok(())
}

fn unreadable() -> Error {
    Error::new(ErrorKind::Store, "a message in the publish store cannot be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(content: Content<'_>) -> Vec<u8> {
        let mut place = vec![0xEE; content.size()];
        content.write(&mut place);
        place
    }

    /// The layout is a promise to files that exist.
    #[test]
    fn the_bytes_of_a_bare_publish_are_these() {
        let bare = Bare { sequence: 0x0102, topic: "ab", payload: b"xyz" };
        assert_eq!(written(Content::Bare(bare)), *b"\x80\0\0\x0F\0\0\0\0\0\0\x01\x02\0\x02abxyz");
    }

    #[test]
    fn contents_are_handed_out_as_they_were_written() {
        let mut frame = Vec::new();
        let full = StoreEntry::new(CommandType::SowDelete, "orders", Selector::Filter("/a = 1"));
        full.encode_in_full(8, &mut frame).unwrap();
        let bare = Bare { sequence: 7, topic: "or\"ders", payload: b"" };
        let contents = [
            written(Content::Bare(bare)),
            written(Content::Framed(&frame)),
            written(Content::Bare(Bare { sequence: u64::MAX - 1, topic: "t", payload: b"\x80\xFF" })),
        ];
        let mut seen = Vec::new();
        let mut see = |sequence: u64, entry: &StoreEntry<'_>| {
            seen.push((sequence, entry.topic.to_owned(), entry.selector == full.selector));
            Ok(())
        };
        hand_out(&contents.concat(), &mut see).unwrap();
        let expected = [(7, "or\"ders", false), (8, "orders", true), (u64::MAX - 1, "t", false)];
        assert_eq!(seen, expected.map(|(number, topic, full)| (number, topic.to_owned(), full)));
    }

    #[test]
    fn bytes_that_are_no_contents_are_an_error() {
        let good = written(Content::Bare(Bare { sequence: 7, topic: "ab", payload: b"xyz" }));
        let bad_text = [&good[..14], b"\xFF\xFE", &good[16..]].concat();
        let long_topic = [&good[..12], b"\xFF\xFF", &good[14..]].concat();
        for bytes in [
            b"\0\0\0\0",
            &good[..good.len() - 1],
            &good[..3],
            &bad_text,
            &long_topic,
            b"\x80\0\0\x01x",
            b"\0\0\0\x01x",
        ] {
            let mut ignore = |_: u64, _: &StoreEntry<'_>| Ok(());
            let outcome = hand_out(bytes, &mut ignore);
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Store, "{bytes:?}");
        }
    }
}
