//! Starting and ending heartbeats: the command that a server is told with, and the setting behind it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::core::Core;
use super::heartbeat::HeartbeatSetting;
use super::session::Phase;
use crate::callbacks::{ConnectionState, Origin};
use crate::command::{Command, whole_seconds};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::AckType;

/// Takes a setting; on a live session it counts at once (H-1, H-2).
pub(crate) fn set(core: &Core, interval: Duration, timeout: Duration) -> Result<()> {
    let rounded = |time| Duration::from_secs(whole_seconds(time));
    let setting = HeartbeatSetting { interval: rounded(interval), timeout: rounded(timeout) };
    if setting.timeout < setting.interval {
        let text = format!("a heartbeat timeout of {timeout:?} is shorter than the interval of {interval:?}");
        return Err(Error::new(ErrorKind::Usage, text));
    }
    {
        let mut current = core.settings.heartbeat.lock();
        if *current == setting {
            return Ok(());
        }
        *current = setting;
    }
    core.settings.heartbeat_changes.fetch_add(1, Ordering::AcqRel);
    if core.session.lock().phase == Phase::LoggedOn {
        match setting.is_on() {
            true => start(core, core.link.version()),
            // A server that is not told goes on waiting for beats, and ends the connection.
            false => drop(tell(core, setting)),
        }
    }
    Ok(())
}

/// Tells the server to beat, if heartbeats are on, and announces it. A failure is reported; the reader of the connection
/// will notice what is behind it.
pub(crate) fn start(core: &Core, version: u64) {
    let setting = *core.settings.heartbeat.lock();
    if !setting.is_on() {
        return;
    }
    if tell(core, setting) {
        // The timers of the receive thread start with the command.
        core.settings.heartbeat_changes.fetch_add(1, Ordering::AcqRel);
        core.announce_if_connected(version, ConnectionState::HeartbeatInitiated);
    }
}

/// Sends the command; an interval of zero ends the beats. False if it could not be sent, which is reported.
fn tell(core: &Core, setting: HeartbeatSetting) -> bool {
    let command = Command::heartbeat(format!("start,{}", setting.interval.as_secs()));
    let sender = || super::link::Sender { patient: false, ..core.sender(None) };
    let sent = core.link.publish(sender, |buffer| command.encode(AckType::NONE, buffer));
    match sent {
        Ok(()) => core.link.flush(),
        Err(refusal) => {
            core.report(core.refusal(refusal, "heartbeat"), Origin::Heartbeat);
            return false;
        }
    }
    true
}
