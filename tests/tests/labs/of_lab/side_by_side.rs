//! Two systems at once.

use std::fs;
use std::io::Read;
use std::process::Child;

use rustix::process::Signal;

use crate::place::{Place, nothing_is_left, prints, signal};
use crate::traces::{Namespaces, groups};

/// A container with an address and a port that leads to it, so that there is all that one can leave;
/// then it waits for a word.
const CONTAINER: &str = "set -e
mkdir -p /root/image/bin
cp /usr/bin/busybox /root/image/bin/
tar -C /root/image -c . | tarectl import --reference busybox -
tarectl run --name c --publish 8080:80 busybox /bin/busybox sleep 1000 >/dev/null
ip -br link show type veth | grep -q .
echo up
while [ ! -e /go ]; do sleep 0.05; done
tarectl exec c /bin/busybox true
exit 4";

fn name(owner: &Child) -> String {
    format!("run-{}", owner.id())
}

#[test]
fn privileged_of_two_systems_side_by_side_one_is_interrupted_and_nothing_is_left_of_either() {
    let place = Place::with("root");
    let [mut interrupted, mut other] = [(); 2].map(|()| place.run_in_system(CONTAINER));
    for child in [&mut interrupted, &mut other] {
        prints(child);
    }
    let [of_interrupted, of_other] = [&interrupted, &other].map(|it| Namespaces::of(&name(it)));
    for own in [&of_interrupted, &of_other] {
        assert!(own.count() > 6, "its own, and those of its container: {own:?}");
        assert!(!own.held().is_empty());
    }
    assert!(!of_interrupted.share(&of_other), "they share nothing");

    signal(&interrupted, Signal::INT);
    assert_eq!(interrupted.wait().unwrap().code(), Some(130));
    let of_first = name(&interrupted);
    nothing_is_left(|| {
        let of_the_place = place.left().into_iter().filter(|it| it.contains(&of_first));
        of_the_place.chain(groups(&of_first)).chain(of_interrupted.held()).collect()
    });

    assert!(!groups(&name(&other)).is_empty(), "the other is still there");
    fs::write(place.path().join("run").join(name(&other)).join("root/go"), "").unwrap();
    let code = other.wait().unwrap().code();
    let mut said = String::new();
    other.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(code, Some(4), "and its container: {said}");
    nothing_is_left(|| [place.left(), groups(&name(&other)), of_other.held()].concat());
}
