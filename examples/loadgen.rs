//! Measures one thing per start: publishing, subscribing, querying or round trips.
//!
//! ```text
//! loadgen --mode publish|subscribe|sow|latency --uri tcp://HOST:PORT/amps/json --count N --size BYTES
//!         [--store none|memory] [--consume handler|stream] [--batch RECORDS] [--depth MESSAGES] [--header min|full]
//! ```
//!
//! It needs a server that answers the topics `bench`, `blast` and `ping` in its own way. The last line on standard output
//! is one JSON object. Exit status 64: the library has no such feature.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use amps_client::{
    Client, ClientBuilder, Command, CommandType, HandlerError, MemoryPublishStore, Message, MessageStream,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Options(HashMap<String, String>);

impl Options {
    fn read() -> Options {
        let mut named = HashMap::new();
        let mut args = std::env::args().skip(1);
        while let (Some(name), Some(value)) = (args.next(), args.next()) {
            named.insert(name.trim_start_matches("--").to_owned(), value);
        }
        Options(named)
    }

    fn text<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.0.get(name).map_or(default, String::as_str)
    }

    fn number(&self, name: &str, default: u64) -> Result<u64, Failure> {
        match self.0.get(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| format!("--{name} {text} is not a number").into()),
        }
    }
}

/// What was measured.
#[derive(Default)]
struct Report {
    elapsed: Duration,
    cpu: (f64, f64),
    /// Round trips in nanoseconds, sorted.
    trips: Vec<u64>,
}

struct Job {
    options: Options,
    count: u64,
    size: usize,
}

fn main() -> ExitCode {
    let options = Options::read();
    let unsupported = !["none", "memory"].contains(&options.text("store", "none"))
        || options.text("batch-bytes", "0") != "0"
        || options.text("batch-ms", "0") != "0";
    if unsupported {
        return ExitCode::from(64);
    }
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loadgen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<(), Failure> {
    let job =
        Job { count: options.number("count", 100_000)?, size: options.number("size", 64)? as usize, options };
    let client = job.builder().build()?;
    client.connect(job.options.text("uri", "tcp://127.0.0.1:9007/amps/json"))?;
    client.logon()?;
    let streamed = job.options.text("consume", "handler") == "stream";
    let report = match (job.options.text("mode", "publish"), streamed) {
        ("publish", _) => job.publish(&client)?,
        ("subscribe", false) => job.subscribe_handler(&client)?,
        ("subscribe", true) => job.subscribe_stream(&client)?,
        ("sow", false) => job.sow_handler(&client)?,
        ("sow", true) => job.sow_stream(&client)?,
        ("latency", false) => job.latency_handler(&client)?,
        ("latency", true) => job.latency_stream(&client)?,
        (other, _) => return Err(format!("no such mode: {other}").into()),
    };
    println!("{}", job.line(&report));
    client.close();
    Ok(())
}

impl Job {
    fn builder(&self) -> ClientBuilder {
        let builder = Client::builder(format!("loadgen-{}", std::process::id()));
        match self.options.text("store", "none") {
            "memory" => builder.publish_store(MemoryPublishStore::new()),
            _ => builder,
        }
    }

    fn publish(&self, client: &Client) -> Result<Report, Failure> {
        let payload = payload(self.size);
        let clock = Clock::start();
        for _ in 0..self.count {
            client.publish("bench", &payload)?;
        }
        client.publish_flush()?;
        Ok(clock.stop())
    }

    fn subscribe_command(&self) -> Command {
        let header = self.options.text("header", "min");
        Command::subscribe("blast").filter(format!("count={},size={},header={header}", self.count, self.size))
    }

    fn sow_command(&self) -> Result<Command, Failure> {
        let batch = self.options.number("batch", 100)? as u32;
        Ok(Command::sow("bench").batch_size(batch).filter(format!("count={},size={}", self.count, self.size)))
    }

    fn subscribe_handler(&self, client: &Client) -> Result<Report, Failure> {
        let (mut tally, done) = Tally::new(self.count);
        let clock = Clock::start();
        client.execute_async(self.subscribe_command(), move |message: &Message| tally.take(message))?;
        let bytes = done.recv()?;
        let report = clock.stop();
        self.check(self.count, bytes)?;
        Ok(report)
    }

    fn subscribe_stream(&self, client: &Client) -> Result<Report, Failure> {
        let clock = Clock::start();
        let stream = self.stream(client.execute(self.subscribe_command())?)?;
        let mut bytes = 0;
        for message in stream.take(self.count as usize) {
            bytes += look_at(&message?);
        }
        let report = clock.stop();
        self.check(self.count, bytes)?;
        Ok(report)
    }

    fn sow_handler(&self, client: &Client) -> Result<Report, Failure> {
        let (sender, done) = sync_channel(1);
        let (mut records, mut bytes) = (0, 0);
        let clock = Clock::start();
        client.execute_async(self.sow_command()?, move |message: &Message| match message.command() {
            CommandType::Sow => {
                records += 1;
                bytes += look_at_record(message);
            }
            CommandType::GroupEnd => drop(sender.send((records, bytes))),
            _ => {}
        })?;
        let (records, bytes) = done.recv()?;
        let report = clock.stop();
        self.check(records, bytes)?;
        Ok(report)
    }

    fn sow_stream(&self, client: &Client) -> Result<Report, Failure> {
        let clock = Clock::start();
        let stream = self.stream(client.execute(self.sow_command()?)?)?;
        let (mut records, mut bytes) = (0, 0);
        for message in stream {
            let message = message?;
            if message.command() == CommandType::Sow {
                records += 1;
                bytes += look_at_record(&message);
            }
        }
        let report = clock.stop();
        self.check(records, bytes)?;
        Ok(report)
    }

    fn latency_handler(&self, client: &Client) -> Result<Report, Failure> {
        let payload = payload(self.size);
        let (arrived, arrivals) = sync_channel(1);
        client.subscribe_async("ping", "", move |_: &Message| -> Result<(), HandlerError> {
            Ok(arrived.send(Instant::now())?)
        })?;
        self.round_trips(|| {
            let sent = Instant::now();
            client.publish("ping", &payload)?;
            Ok(arrivals.recv()?.duration_since(sent))
        })
    }

    fn latency_stream(&self, client: &Client) -> Result<Report, Failure> {
        let payload = payload(self.size);
        let mut stream = self.stream(client.subscribe("ping", "")?)?;
        self.round_trips(|| {
            let sent = Instant::now();
            client.publish("ping", &payload)?;
            stream.next().ok_or("the stream ended")??;
            Ok(sent.elapsed())
        })
    }

    fn round_trips(&self, mut trip: impl FnMut() -> Result<Duration, Failure>) -> Result<Report, Failure> {
        for _ in 0..(self.count / 10).min(2000) {
            trip()?;
        }
        let mut trips = Vec::with_capacity(self.count as usize);
        let clock = Clock::start();
        for _ in 0..self.count {
            trips.push(trip()?.as_nanos() as u64);
        }
        trips.sort_unstable();
        Ok(Report { trips, ..clock.stop() })
    }

    fn stream(&self, stream: MessageStream) -> Result<MessageStream, Failure> {
        let depth = self.options.number("depth", 0)? as usize;
        if depth > 0 {
            stream.set_max_depth(depth, usize::MAX)?;
        }
        Ok(stream)
    }

    fn check(&self, count: u64, bytes: u64) -> Result<(), Failure> {
        let expected = self.count * self.size as u64;
        if (count, bytes) != (self.count, expected) {
            return Err(
                format!("{count} messages of {bytes} bytes came, not {} of {expected}", self.count).into()
            );
        }
        Ok(())
    }

    fn line(&self, report: &Report) -> String {
        let elapsed = report.elapsed.as_secs_f64();
        let rate = self.count as f64 / elapsed;
        let percentile = |share: f64| match report.trips.len() {
            0 => "null".to_owned(),
            trips => {
                let rank = ((trips as f64 * share).ceil() as usize).clamp(1, trips);
                format!("{:.3}", report.trips[rank - 1] as f64 / 1000.0)
            }
        };
        format!(
            concat!(
                r#"{{"driver":"amps-client","mode":"{}","store":"{}","consume":"{}","count":{},"size":{},"#,
                r#""elapsed_s":{:.6},"msgs_per_s":{:.0},"bytes_per_s":{:.0},"cpu_user_s":{:.3},"cpu_sys_s":{:.3},"#,
                r#""p50_us":{},"p99_us":{},"p999_us":{},"max_rss_kb":{}}}"#
            ),
            self.options.text("mode", "publish"),
            self.options.text("store", "none"),
            self.options.text("consume", "handler"),
            self.count,
            self.size,
            elapsed,
            rate,
            rate * self.size as f64,
            report.cpu.0,
            report.cpu.1,
            percentile(0.5),
            percentile(0.99),
            percentile(0.999),
            peak_memory(),
        )
    }
}

/// Counts the messages of a subscription and says when all have come.
struct Tally {
    left: u64,
    bytes: u64,
    done: std::sync::mpsc::SyncSender<u64>,
}

impl Tally {
    fn new(count: u64) -> (Tally, Receiver<u64>) {
        let (done, all) = sync_channel(1);
        (Tally { left: count, bytes: 0, done }, all)
    }

    fn take(&mut self, message: &Message) {
        self.bytes += look_at(message);
        self.left -= 1;
        if self.left == 0 {
            let _ = self.done.send(self.bytes); // a driver that gave up does not wait for it
        }
    }
}

fn look_at(message: &Message) -> u64 {
    std::hint::black_box(message.topic());
    message.data().len() as u64
}

fn look_at_record(message: &Message) -> u64 {
    std::hint::black_box((message.topic(), message.sow_key()));
    message.data().len() as u64
}

/// `{"id":1,"p":"…"}` of exactly this length.
fn payload(size: usize) -> Vec<u8> {
    let (start, end) = (r#"{"id":1,"p":""#, r#""}"#);
    let padding = "x".repeat(size.saturating_sub(start.len() + end.len()));
    let mut text = format!("{start}{padding}{end}").into_bytes();
    text.truncate(size);
    text
}

struct Clock {
    start: Instant,
    cpu: (f64, f64),
}

impl Clock {
    fn start() -> Clock {
        Clock { cpu: cpu_seconds(), start: Instant::now() }
    }

    fn stop(self) -> Report {
        let elapsed = self.start.elapsed();
        let (user, system) = cpu_seconds();
        Report { elapsed, cpu: (user - self.cpu.0, system - self.cpu.1), trips: Vec::new() }
    }
}

/// User and system time of all threads, in seconds; 0 where the system does not tell.
fn cpu_seconds() -> (f64, f64) {
    let ticks = |text: &str| -> Option<(f64, f64)> {
        let fields: Vec<&str> = text.rsplit(')').next()?.split_whitespace().collect();
        Some((fields.get(11)?.parse().ok()?, fields.get(12)?.parse().ok()?))
    };
    let found = std::fs::read_to_string("/proc/self/stat").ok().and_then(|text| ticks(&text));
    found.map_or((0.0, 0.0), |(user, system)| (user / 100.0, system / 100.0))
}

/// The peak resident size in KiB; 0 where the system does not tell.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
    line.trim().trim_end_matches("kB").trim().parse().unwrap_or(0)
}
