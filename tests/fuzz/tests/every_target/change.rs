//! Changes to bytes that look like chance and are the same every time.

/// Numbers for them: `SplitMix64`.
pub(crate) struct Chance(u64);

impl Chance {
    /// Begins anew for each name.
    pub(crate) fn of(name: &str) -> Self {
        let add = |sum: u64, byte| sum.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte);
        Self(name.bytes().fold(0, add))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    pub(crate) fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// A piece of what has so many bytes, short ones more often.
    fn piece(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.below(len + 1);
        let most = 1 << self.below(10);
        let end = (start + self.below(most) + 1).min(len);
        start..end.max(start)
    }
}

/// Bytes that mean something to most who read.
const BYTES: &[u8] = b"\0\x01\t\n\r\x1b /.:,#\"\\-09aZ\x7f\x80\xc2\xff";
/// Numbers at which something ends.
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "255",
    "65536",
    "2147483648",
    "4294967296",
    "18446744073709551616",
    "07777777",
];

/// Changes a seed in one to four places; other seeds and words are what it may get.
pub(crate) fn change(
    seed: &[u8],
    others: &[Vec<u8>],
    words: &[&str],
    chance: &mut Chance,
) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=chance.below(4) {
        change_once(&mut bytes, others, words, chance);
    }
    bytes
}

fn change_once(bytes: &mut Vec<u8>, others: &[Vec<u8>], words: &[&str], chance: &mut Chance) {
    let piece = chance.piece(bytes.len());
    match chance.below(9) {
        0 => in_place(bytes, chance, |byte, chance| byte ^ (1_u8 << chance.below(8))),
        1 => in_place(bytes, chance, |_, chance| *chance.one_of(BYTES)),
        2 => insert(bytes, piece.start, chance.one_of(words).as_bytes()),
        3 => put_over(bytes, piece.start, chance.one_of(words).as_bytes()),
        4 => drop(bytes.drain(piece)),
        5 => {
            let again = bytes[piece.clone()].to_vec();
            insert(bytes, piece.end, &again);
        }
        6 => {
            let other = chance.one_of(others);
            let theirs = chance.piece(other.len());
            drop(bytes.splice(piece, other[theirs].iter().copied()));
        }
        7 => another_number(bytes, piece.start, chance.one_of(NUMBERS).as_bytes()),
        _ => {
            let len = if chance.below(4) == 0 { piece.start } else { bytes.len() };
            bytes.truncate(len);
        }
    }
}

fn in_place(bytes: &mut [u8], chance: &mut Chance, to: fn(u8, &mut Chance) -> u8) {
    if !bytes.is_empty() {
        let at = chance.below(bytes.len());
        bytes[at] = to(bytes[at], chance);
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, more: &[u8]) {
    drop(bytes.splice(at..at, more.iter().copied()));
}

fn put_over(bytes: &mut Vec<u8>, at: usize, more: &[u8]) {
    let end = (at + more.len()).min(bytes.len());
    drop(bytes.splice(at..end, more.iter().copied()));
}

/// In place of the next one there is.
fn another_number(bytes: &mut Vec<u8>, from: usize, number: &[u8]) {
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let Some(start) = bytes[from..].iter().position(is_digit).map(|at| from + at) else { return };
    let end = start + bytes[start..].iter().take_while(|byte| is_digit(byte)).count();
    drop(bytes.splice(start..end, number.iter().copied()));
}

#[test]
fn changes_are_the_same_every_time_and_of_every_kind() {
    let (seed, others) = (b"one 12 two".to_vec(), [b"other".to_vec()]);
    let made = || {
        let mut chance = Chance::of("name");
        (0..500).map(|_| change(&seed, &others, &["word"], &mut chance)).collect::<Vec<_>>()
    };
    let all = made();
    assert_eq!(all, made());
    let has = |what: &[u8]| all.iter().any(|it| it.windows(what.len()).any(|part| part == what));
    assert!(has(b"word") && has(b"4294967296") && has(b"oth"), "words, numbers, other seeds");
    assert!(all.iter().any(|it| it.len() < 5) && all.iter().any(|it| it.len() > 20));
    // Nothing to change is no reason to fail.
    let mut chance = Chance::of("empty");
    (0..200).for_each(|_| drop(change(b"", &[Vec::new()], &["w"], &mut chance)));
}
