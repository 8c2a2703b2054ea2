//! Every step of every operation fails once.

use std::cell::Cell;
use std::{fmt, io};

use rustix::io::Errno;
use tare_netns::{
    Error, ErrorKind, Firewall, Ownership, ensure_bridge, fault, remove_bridge, setup, teardown,
};

use crate::common::{bridge, container, ensure, name, on_scratch_host, world};

thread_local! {
    /// Steps that this thread still lets pass. Steps are begun on the thread that calls.
    static LET_PASS: Cell<Option<usize>> = const { Cell::new(None) };
    /// What the step after them fails with.
    static ERRNO: Cell<i32> = const { Cell::new(Errno::IO.raw_os_error()) };
}

fn countdown(_: &dyn fmt::Display) -> io::Result<()> {
    let left = LET_PASS.get();
    LET_PASS.set(left.and_then(|left| left.checked_sub(1)));
    if left == Some(0) { Err(io::Error::from_raw_os_error(ERRNO.get())) } else { Ok(()) }
}

/// Runs `operation` with a failure at step 0, 1, 2 ... until it passes; `check` sees each error.
fn fail_everywhere<T>(operation: impl Fn() -> Result<T, Error>, check: impl Fn(&Error)) -> usize {
    fault::set_hook(countdown);
    for step in 0.. {
        LET_PASS.set(Some(step));
        let result = operation();
        LET_PASS.set(None);
        match result {
            Ok(_) => return step,
            Err(error) => check(&error),
        }
    }
    unreachable!()
}

#[test]
fn privileged_a_setup_that_fails_anywhere_leaves_nothing() {
    on_scratch_host(|| {
        ensure(&bridge());
        setup(&container(&bridge(), 9)).unwrap();
        let before = world();
        let wanted = container(&bridge(), 2);
        let steps = fail_everywhere(
            || setup(&wanted),
            |error| {
                assert_ne!(error.kind(), ErrorKind::NeedsRepair, "{error:?}");
                assert_eq!(world(), before, "{error:?}");
            },
        );
        assert_eq!(steps, tare_netns::plan(&wanted).len());
    });
}

#[test]
fn privileged_a_bridge_that_fails_anywhere_is_not_left() {
    on_scratch_host(|| {
        let before = world();
        let steps = fail_everywhere(
            || ensure_bridge(&bridge()),
            |error| assert_eq!(world(), before, "{error:?}"),
        );
        assert_eq!(steps, 4);
        assert!(fail_everywhere(|| remove_bridge(&bridge().name), |_| {}) == 1);
    });
}

#[test]
fn privileged_a_teardown_that_fails_anywhere_removes_the_rest_and_can_be_repeated() {
    on_scratch_host(|| {
        ensure(&bridge());
        setup(&container(&bridge(), 9)).unwrap();
        let before = world();
        let wanted = container(&bridge(), 2);
        let steps = fail_everywhere(
            || {
                setup_unhindered(&wanted);
                teardown(&wanted)
            },
            |error| {
                assert_eq!(error.kind(), ErrorKind::NeedsRepair);
                assert_ne!(world(), before, "{error:?}");
                teardown(&wanted).unwrap();
                assert_eq!(world(), before, "{error:?}");
            },
        );
        assert_eq!(steps, 3);
        assert_eq!(world(), before);
    });
}

fn setup_unhindered(wanted: &tare_netns::Wanted) {
    let left = LET_PASS.take();
    setup(wanted).unwrap();
    LET_PASS.set(left);
}

#[test]
fn privileged_a_firewall_that_cannot_be_loaded_is_not_there() {
    on_scratch_host(|| {
        let before = world();
        let check = |error: &Error| assert_eq!(world(), before, "{error:?}");
        assert_eq!(fail_everywhere(|| Firewall::open(&name("tare")), check), 1);
        let firewall = Firewall::open(&name("tare")).unwrap();
        let addresses = [name("10.88.0.2")];
        let nothing = |_: &Error| assert!(firewall.list().unwrap().is_empty());
        assert_eq!(fail_everywhere(|| firewall.add(&addresses), nothing), 1);
        assert_eq!(firewall.list().unwrap(), addresses);
    });
}

#[test]
fn privileged_a_kernel_without_owners_gets_a_table_that_all_can_change() {
    on_scratch_host(|| {
        fault::set_hook(countdown);
        ERRNO.set(Errno::OPNOTSUPP.raw_os_error());
        let open = || {
            LET_PASS.set(Some(0));
            Firewall::open(&name("tare")).unwrap()
        };
        let firewall = open();
        assert_eq!(firewall.ownership(), Ownership::Shared);
        firewall.add(&[name("10.88.0.2")]).unwrap();
        drop(firewall);
        let firewall = open();
        assert_eq!(firewall.list().unwrap(), [name::<std::net::IpAddr>("10.88.0.2")]);
        drop(firewall);
        let firewall = Firewall::open(&name("tare")).unwrap();
        assert_eq!(firewall.ownership(), Ownership::Exclusive, "after an update of the kernel");
    });
}
