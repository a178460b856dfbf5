//! Coordinators and agents as processes of their own.

use super::{EVENKEEL, Running, Suite};

/// Starts a coordinator on a Unix socket in the suite's directory; its address.
pub fn coordinator(suite: &Suite) -> (Running<'_>, String) {
    let listen = format!("unix:{}", suite.root.join("socket").display());
    coordinator_at(suite, &listen)
}

/// Starts a coordinator that listens there; its address is what it prints.
pub fn coordinator_at<'a>(suite: &'a Suite, listen: &str) -> (Running<'a>, String) {
    let mut command = suite.command(EVENKEEL);
    command.args(["coordinator", "--listen", listen, "--state", ".evenkeel"]);
    let mut running = suite.start(command);
    let out = running.stdout_path();
    let mut address = None;
    running.until("the coordinator's address", || {
        let said = std::fs::read_to_string(&out).unwrap();
        address = said
            .strip_prefix("listening on ")
            .and_then(|rest| rest.strip_suffix('\n'))
            .map(str::to_owned);
        address.is_some()
    });
    (running, address.unwrap())
}

/// Starts an agent of that coordinator.
pub fn agent<'a>(suite: &'a Suite, address: &str, name: &str, more: &[&str]) -> Running<'a> {
    agent_in(suite, address, name, more, &[])
}

/// The same, with variables of its own for what its tests run in.
pub fn agent_in<'a>(
    suite: &'a Suite,
    address: &str,
    name: &str,
    more: &[&str],
    variables: &[(&str, &str)],
) -> Running<'a> {
    let mut command = suite.command(EVENKEEL);
    command.args(["agent", "--coordinator", address, "--name", name]);
    command.args(more).envs(variables.iter().copied());
    suite.start(command)
}
