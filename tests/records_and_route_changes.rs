//! Routes that change while a query's result is delivered.

mod support;

use std::sync::mpsc;

use amps_client::{Command, CommandType, Message};
use support::client::{SOON, Scene};

/// One frame holds many records; a subscription that ends or begins in between costs none of them.
#[test]
fn a_change_of_other_routes_loses_no_record_of_a_result() {
    let scene = Scene::logged_on("records");
    scene.subscribe("other");
    let (sender, records) = mpsc::channel();
    let weak = scene.client.downgrade();
    scene.accepted("sow", move |client| {
        let handler = move |message: &Message| {
            if message.command() == CommandType::Sow {
                let data = message.data_str().expect("text").to_owned();
                if data == "1" {
                    weak.upgrade().expect("the client").unsubscribe("other").expect("sent");
                }
                sender.send(data).expect("the test listens");
            }
        };
        client.execute_async(Command::sow("t").query_id("q"), handler)
    });
    let frame = br#"{"l":1}1{"l":1}2{"l":1}3"#;
    scene.connection.send(r#"{"c":"sow","t":"t","query_id":"q","bs":3}"#, frame).expect("sent");
    let received: Vec<String> = (0..3).map(|_| records.recv_timeout(SOON).expect("a record")).collect();
    assert_eq!(received, ["1", "2", "3"]);
}
