//! Moves bytes, with time limits, and can be shut down from another thread.

use std::fmt;
use std::io;
use std::time::Duration;

/// How long a read waits for a byte before it reports that there is none: the idle tick of the receive thread.
pub(crate) const IDLE_TICK: Duration = Duration::from_millis(100);

/// A connected stream of bytes. One thread reads; one at a time writes; any thread may shut it down.
pub(crate) trait Transport: Send + Sync + fmt::Debug {
    /// Reads some bytes. 0 is the end of the stream; [`io::ErrorKind::WouldBlock`] says that nothing came within
    /// [`IDLE_TICK`].
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all bytes, waiting for the peer as long as it takes.
    fn write_all(&self, bytes: &[u8]) -> io::Result<()>;

    /// Writes what can be written without waiting; possibly nothing.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Ends both directions and wakes whoever reads or writes. May be called more than once.
    fn shutdown(&self);
}
