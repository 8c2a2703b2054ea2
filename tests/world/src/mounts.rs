//! What is mounted where, and how.

use std::fs;

use super::Scope;
use super::things::Things;

/// The table of the calling thread's mount namespace. Mounts that lie on each other are as many
/// things of one name.
pub(super) fn here(scope: &Scope) -> Things {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").expect("the kernel has it");
    table.lines().filter(|line| scope.is_marked(line)).filter_map(parse).collect()
}

/// A line of `proc_pid_mountinfo(5)`: where, and how.
///
/// Without the numbers of mount, device and peer group: what is mounted again gets others.
fn parse(line: &str) -> Option<(String, String)> {
    let mut words = line.split(' ').skip(3);
    let (root, at, options) = (words.next()?, words.next()?, words.next()?);
    let peers = words.by_ref().take_while(|word| *word != "-");
    let peers: Vec<&str> = peers.filter_map(|word| word.split(':').next()).collect();
    let (kind, source, rest) = (words.next()?, words.next()?, words.next()?);
    let mut how = format!("{kind} {root} of {source}, {options} {rest}");
    for peer in peers {
        how.push(' ');
        how.push_str(peer);
    }
    Some((at.into(), how))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_do_not_count_and_the_kind_of_propagation_does() {
        let line =
            |numbers, group| format!("{numbers} / /run rw,nosuid {group}- tmpfs none rw,size=1k");
        let (at, how) = parse(&line("36 35 0:31", "shared:12 ")).unwrap();
        assert_eq!(
            (at.as_str(), how.as_str()),
            ("/run", "tmpfs / of none, rw,nosuid rw,size=1k shared")
        );
        assert_eq!(parse(&line("99 35 0:77", "shared:5 ")), Some((at.clone(), how.clone())));
        assert_ne!(parse(&line("36 35 0:31", "")), Some((at, how)));
    }
}
