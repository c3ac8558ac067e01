//! This machine's id, by which a path is said to be on it. Agents say the same of themselves (`drover_agent::facts`).

use std::fs;

pub fn id() -> String {
    let given = ["/etc/machine-id", "/var/lib/dbus/machine-id"].into_iter().find_map(read);
    given.unwrap_or_else(|| format!("host-{}", rustix::system::uname().nodename().to_string_lossy()))
}

fn read(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let id = text.trim();
    (id.len() >= 16 && id.bytes().all(|byte| byte.is_ascii_alphanumeric())).then(|| id.to_owned())
}

#[cfg(all(test, feature = "dev"))]
mod tests {
    #[test]
    fn the_agent_says_the_same_of_this_machine() {
        assert_eq!(super::id(), drover_agent::facts::machine());
    }
}
