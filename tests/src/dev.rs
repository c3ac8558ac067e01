//! `droverctl dev` as a program: controller and agent at once, killed and started again on the same directory.

use crate::client::Client;
use crate::ground::Ground;
use crate::patience::eventually;
use crate::programs::{Program, free_port};

/// Whatever it started ends with it.
#[derive(Debug)]
pub struct Dev {
    program: Option<Program>,
    port: u16,
    pub ground: Ground,
}

impl Dev {
    pub async fn start() -> Self {
        let mut dev = Self { program: None, port: free_port(), ground: Ground::default() };
        dev.again().await;
        // A path is refused as long as no node of its machine has ever joined.
        let client = dev.client();
        eventually("its node is there", || async { (client.reachable().await.len() == 1).then_some(()) })
            .await;
        dev
    }

    /// SIGKILL for both at once.
    pub fn kill(&mut self) {
        self.program.take().unwrap().kill();
    }

    /// The same once more, on the same directory.
    pub async fn again(&mut self) {
        let address = format!("127.0.0.1:{}", self.port);
        let (data, log) = (self.ground.join("data").display().to_string(), self.ground.join("dev.log"));
        let arguments = ["dev", "--data-dir", &data, "--listen", &address];
        self.program = Some(Program::start("droverctl", &log, &arguments, self.ground.path()));
        // It listens before it has made the last of what clients need.
        let last = self.ground.join("data/controller/operator.token");
        eventually("dev serves", || async {
            tokio::net::TcpStream::connect(&address).await.ok().filter(|_| last.is_file())
        })
        .await;
    }

    pub fn client(&self) -> Client {
        let read =
            |name: &str| std::fs::read_to_string(self.ground.join("data/controller").join(name)).unwrap();
        Client::new(&format!("127.0.0.1:{}", self.port), &read("ca.crt"), read("operator.token").trim())
    }
}
