//! Starting and ending heartbeats: the command that a server is told with, and the setting behind it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::core::Core;
use super::heartbeat::HeartbeatSetting;
use super::link::{Refusal, Sender};
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
    let before = std::mem::replace(&mut *core.settings.heartbeat.lock(), setting);
    if before == setting {
        return Ok(());
    }
    core.settings.heartbeat_changes.fetch_add(1, Ordering::AcqRel);
    if core.session.lock().phase == Phase::LoggedOn {
        match setting.is_on() {
            true => start(core, core.link.version()),
            // A server that is not told would end a connection on which no beats come.
            false => report(core, tell(core, 0)),
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
    let told = tell(core, setting.interval.as_secs());
    if told.is_ok() {
        // The timers of the receive thread start with the command.
        core.settings.heartbeat_changes.fetch_add(1, Ordering::AcqRel);
        core.announce_if_connected(version, ConnectionState::HeartbeatInitiated);
    }
    report(core, told);
}

/// Tells the server to beat every so many seconds, 0 for never.
fn tell(core: &Core, interval: u64) -> Result<(), Refusal> {
    let command = Command::heartbeat(format!("start,{interval}"));
    let sender = || Sender { patient: false, ..core.sender(None) };
    core.link.publish(sender, |buffer| command.encode(AckType::NONE, buffer))?;
    core.link.flush();
    Ok(())
}

fn report(core: &Core, told: Result<(), Refusal>) {
    if let Err(refusal) = told {
        core.report(core.refusal(refusal, "heartbeat"), Origin::Heartbeat);
    }
}
