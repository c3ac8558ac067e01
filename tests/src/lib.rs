//! What system tests and measurements stand on: repositories, clusters in this process and of real programs, clients, and
//! patience. Everything lives in temporary directories and ends with its value; nothing else is touched.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be set up has failed")]

pub mod bench;
pub mod chaos;
pub mod client;
pub mod cluster;
pub mod collector;
pub mod dev;
pub mod follower;
pub mod gate;
pub mod ground;
pub mod installation;
pub mod patience;
pub mod programs;
pub mod repository;
