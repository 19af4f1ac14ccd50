//! As root two processes keep a mount: a broker with rights and the one that serves it. They live and die together.

use std::fs;
use std::process::Stdio;

use crate::machine::{Mountpoint, Running, brokers_of, can_mount, fixture, signal, succeed, wait_for};

fn has_broker() -> bool {
    can_mount() && rustix::process::geteuid().is_root()
}

#[test]
fn when_the_serving_process_dies_it_is_unmounted() {
    if !has_broker() {
        return;
    }
    let mountpoint = Mountpoint::new();
    let log = mountpoint.beside("log");
    succeed(
        fixture().command("mount").arg(mountpoint.path()).args(["-o", &format!("log={}", log.display())]),
    );
    signal(mountpoint.servers()[0], "KILL");
    mountpoint.wait_until_gone();
    let told = fs::read_to_string(log).unwrap();
    assert!(told.contains("has ended (signal: 9 (SIGKILL)); it is unmounted"), "{told}");
}

#[test]
fn a_broker_that_dies_takes_the_serving_process_with_it() {
    if !has_broker() {
        return;
    }
    let mountpoint = Mountpoint::new();
    succeed(fixture().command("mount").arg(mountpoint.path()));
    signal(brokers_of(&mountpoint.path())[0], "KILL");
    wait_for("the serving process to go", || mountpoint.servers().is_empty());
}

#[test]
fn a_broker_that_is_told_to_end_unmounts() {
    if !has_broker() {
        return;
    }
    let mountpoint = Mountpoint::new();
    succeed(fixture().command("mount").arg(mountpoint.path()));
    signal(brokers_of(&mountpoint.path())[0], "TERM");
    mountpoint.wait_until_gone();
}

#[test]
fn a_serving_process_that_does_not_end_is_killed() {
    if !has_broker() {
        return;
    }
    let mountpoint = Mountpoint::new();
    let mut command = fixture().command("mount");
    command.arg("-f").arg(mountpoint.path()).stderr(Stdio::null());
    let mut running = Running(command.spawn().unwrap());
    wait_for("the mount", || !mountpoint.mounted().is_empty() && fs::read_dir(mountpoint.path()).is_ok());
    signal(mountpoint.servers()[0], "STOP");
    signal(running.0.id(), "TERM");
    assert_eq!(running.0.wait().unwrap().code(), Some(32));
    mountpoint.wait_until_gone();
}
