//! The short forms of the builder that give a client both stores (HA-3, `api-surface` section 18).

use std::sync::Arc;

use amps_client::testing::LogonAck;
use amps_client::{Bookmark, HAClientBuilder};

use crate::support::client::*;
use crate::support::ha::*;

/// HA-3: a publish made before there is a server, and the progress of a subscription, are kept over a failover.
#[test]
fn a_memory_backed_client_keeps_publishes_and_progress_over_a_failover() {
    let mut scene = HaScene::of(HAClientBuilder::memory_backed);
    let store = Arc::clone(scene.client.bookmark_store().expect("a bookmark store"));
    store.placed("s", &Bookmark::at(7, 3)).unwrap();
    scene.connection.close();
    let sequence = scene.client.publish("t", "x").unwrap();
    scene.accept_again(&LogonAck::success());
    let frame = scene.connection.expect("publish", SOON).unwrap();
    assert_eq!(frame.header("s"), Some(&*sequence.to_string()));
    assert_eq!(store.most_recent("s").unwrap(), Bookmark::at(7, 3));
    assert_eq!(scene.client.publish_store().map(|store| store.unpersisted_count()), Some(1));
}

#[cfg(feature = "file-store")]
mod in_files {
    use amps_client::{BookmarkStore, ErrorKind, FilePublishStore, HAClient, LoggedBookmarkStore, Result};

    use super::*;
    use crate::support::TempDir;

    fn backed(dir: &TempDir) -> Result<HAClient> {
        HAClient::builder("backed").file_backed(dir.join("publishes"), dir.join("bookmarks"))?.build()
    }

    /// HA-3: everything is there again for the next client of the name, in the files that were named.
    #[test]
    fn a_file_backed_client_keeps_publishes_and_progress_over_its_end() {
        let dir = TempDir::new();
        let client = backed(&dir).unwrap();
        let sequence = client.publish("t", "x").unwrap();
        client.bookmark_store().expect("a bookmark store").placed("s", &Bookmark::at(7, 3)).unwrap();
        drop(client);

        let client = backed(&dir).unwrap();
        let (publishes, bookmarks) = (client.publish_store(), client.bookmark_store());
        assert_eq!(publishes.expect("a publish store").lowest_unpersisted(), Some(sequence));
        let placed = bookmarks.expect("a bookmark store").most_recent("s").unwrap();
        assert_eq!(placed, Bookmark::at(7, 3));
    }

    /// HA-3, PS-25: a file that is in use is refused at once, whichever of the two it is, and nothing stays locked.
    #[test]
    fn a_file_that_is_in_use_is_refused_before_there_is_a_client() {
        let dir = TempDir::new();
        let publishes = FilePublishStore::open(dir.join("publishes")).unwrap();
        assert_eq!(backed(&dir).unwrap_err().kind(), ErrorKind::Store);
        drop(publishes);
        let bookmarks = LoggedBookmarkStore::open(dir.join("bookmarks")).unwrap();
        assert_eq!(backed(&dir).unwrap_err().kind(), ErrorKind::Store);
        assert!(bookmarks.most_recent("s").is_ok());
        drop(bookmarks);
        assert!(backed(&dir).is_ok());
    }
}
