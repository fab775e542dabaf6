//! A pool of threads that work on a queue, over a lost connection and with jobs that fail.
//!
//! What a worker cannot do, by an error or a panic, is given back and comes again. Acknowledgements are collected; the
//! shutdown sends the last of them and waits until the server has processed them.
//!
//! ```text
//! cargo run --example queue_worker_pool
//! ```

use std::collections::HashMap;
use std::error::Error as StdError;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use amps_client::testing::Server;
use amps_client::{HAClient, HandlerError, Message, QueueWorkers, UnhandledError};

const QUEUE: &str = "queue/jobs";
const JOBS: u64 = 100;
const LIMIT: Duration = Duration::from_secs(30);

/// How often each job was begun.
type Attempts = Arc<Mutex<HashMap<u64, u32>>>;

fn main() -> Result<(), Box<dyn StdError>> {
    let server = Server::quick()?;
    let client = HAClient::builder("pool-example")
        .servers([server.uri("json")])
        .reconnect_delay(Duration::from_millis(10))
        .build()?;
    client.set_exception_listener(|failure: &UnhandledError| eprintln!("{failure}"));
    client.set_ack_batch_size(10); // less than half the backlog, so that the server never has to wait for them
    client.set_ack_timeout(Duration::from_millis(50))?;
    client.connect_and_logon_timeout(LIMIT)?;

    let attempts = Attempts::default();
    let mine = Arc::clone(&attempts);
    let workers = QueueWorkers::builder(QUEUE)
        .workers(4)
        .max_backlog(40)
        .start(&client, move |job: &Message| work(job, &mine))?;

    for id in 1..=JOBS {
        server.publish(QUEUE, id.to_string())?;
    }
    server.wait_for(|server| server.queue(QUEUE).is_some_and(|queue| queue.acked >= JOBS / 2), LIMIT)?;
    server.disconnect("pool-example"); // as a network failure would
    server.wait_for(|server| server.queue(QUEUE).is_some_and(|queue| queue.depth() == 0), LIMIT)?;
    workers.shutdown(LIMIT)?;

    let queue = server.queue(QUEUE).ok_or("it was used")?;
    let attempts = attempts.lock().map_err(|_| "a worker died")?;
    println!("{} jobs are done, {} are left", queue.acked, queue.depth());
    println!("some were begun more than once: {}", attempts.values().any(|times| *times > 1));
    Ok(())
}

/// On any of the workers. A job may come twice, so doing it again must do no harm.
fn work(job: &Message, attempts: &Attempts) -> Result<(), HandlerError> {
    let id: u64 = job.data_str()?.parse()?;
    let times = {
        let mut attempts = attempts.lock().map_err(|_| "a worker died")?;
        let times = attempts.entry(id).or_default();
        *times += 1;
        *times
    };
    thread::sleep(Duration::from_millis(1)); // as if it took its time
    match id {
        13 if times == 1 => Err("the tool broke".into()), // given back
        31 if times == 1 => panic!("job {id} was too much"),
        _ => Ok(()), // acknowledged
    }
}
