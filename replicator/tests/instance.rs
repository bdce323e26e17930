//! The name of an instance that says none, by the binary: only its `main` reads the process's own environment.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

/// `check --offline` of a configuration with this line in it, by a process to which a shell has not told its `HOSTNAME`.
fn check(line: &str, host: Option<&str>) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kuroshio.yaml");
    let clusters = "clusters: { tw: { bootstrap_servers: 'a:1' }, jp: { bootstrap_servers: 'b:1' } }";
    std::fs::write(
        &file,
        format!("{clusters}\nflows: [{{ source: tw, target: jp }}]\n{line}\n"),
    )
    .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kuroshio"));
    command.args(["check", "--offline", "--config"]).arg(&file);
    command
        .env_remove("HOSTNAME")
        .envs(host.map(|host| ("HOSTNAME", host)));
    command.output().unwrap()
}

#[test]
fn without_hostname_it_is_what_the_machine_calls_itself() {
    for line in ["", "instance: '${env:HOSTNAME}'"] {
        let checked = check(line, None);
        assert_eq!(checked.status.code(), Some(0), "{line}: {checked:?}");
    }
    // Refused names are shown.
    let refused = |host: Option<&str>| {
        let checked = check("instance: 'pod ${env:HOSTNAME}'", host);
        assert_eq!(checked.status.code(), Some(64), "{checked:?}");
        String::from_utf8(checked.stderr).unwrap()
    };
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let said = refused(None);
    assert!(said.contains(&format!("`pod {}`", machine.trim_end())), "{said}");
    let said = refused(Some("told-0"));
    assert!(said.contains("`pod told-0`"), "{said}");
    let other = check("instance: '${env:NO_SUCH_VARIABLE}'", None);
    assert_eq!(other.status.code(), Some(64), "{other:?}");
}
