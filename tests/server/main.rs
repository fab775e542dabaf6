//! The embedded server, frame by frame.

#[path = "../support/mod.rs"]
mod support;

mod acks;
mod cluster;
mod conflation;
mod delta;
mod entitlement;
mod faults_acks;
mod faults_answers;
mod faults_client;
mod faults_connections;
mod faults_frames;
mod faults_moments;
mod faults_replay;
mod faults_silence;
mod heartbeat;
mod hostile;
mod inspection;
mod lifecycle;
mod links;
mod logon;
mod oof;
mod publish;
mod queues;
mod quick;
mod reasons;
mod replay;
mod sequences;
mod slow_consumer;
mod sow;
mod sow_and_subscribe;
mod subscriptions;
mod topics;
mod wire;
