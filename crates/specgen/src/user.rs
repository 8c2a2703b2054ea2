//! Who a process runs as: the ways to say it, and its meaning in a given `/etc/passwd`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::accounts::{self, MAX_ACCOUNT_FILE};
use crate::facts::RootfsFacts;
use crate::text::{
    AbsolutePath, InvalidText, Problem, check_bytes, check_chars, string_form, text_type,
};

/// Largest user or group id: runtimes keep ids in 32-bit signed integers, and one beyond turned
/// into 0 (CVE-2024-40635).
pub const MAX_ID: u32 = i32::MAX.unsigned_abs();

/// Longest account name, in bytes: glibc's and shadow's longest.
pub const MAX_ACCOUNT_NAME: usize = 256;

text_type! {
    /// Name of an account: 1 to [`MAX_ACCOUNT_NAME`] bytes, not all digits, not starting with `-`
    /// or `+`, without `:`, `,`, `/`, white space and control characters.
    AccountName, "account name", check_account_name
}

fn check_account_name(text: &str) -> Result<(), Problem> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        return Err(Problem::Form("is a number"));
    }
    check_bytes(text, MAX_ACCOUNT_NAME, |at, byte| match byte {
        b':' | b',' | b'/' | b' ' | 0x7f => false,
        b'-' | b'+' => at > 0,
        byte => byte > b' ',
    })?;
    check_chars(text, |it| !it.is_control() && !it.is_whitespace())
}

/// A user or a group, by number or by name; digits alone are always a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Account {
    /// By number, at most [`MAX_ID`].
    Id(u32),
    /// By a name to be found in the container's own files.
    Name(AccountName),
}

impl FromStr for Account {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Self::Name);
        }
        match text.parse() {
            Ok(id @ 0..=MAX_ID) => Ok(Self::Id(id)),
            _ => Err(InvalidText::new("account number", Problem::Form("is above 2147483647"))),
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::Name(name) => write!(f, "{name}"),
        }
    }
}

string_form!(Account);

/// Who to run as: `user`, `user:group` or nothing at all (root), each by name or number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserSpec {
    user: Account,
    group: Option<Account>,
}

impl Default for UserSpec {
    fn default() -> Self {
        Self { user: Account::Id(0), group: None }
    }
}

impl FromStr for UserSpec {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let user = if user.is_empty() { Account::Id(0) } else { user.parse()? };
        // "user:" means the same as "user", as in podman and docker.
        let group = group.filter(|group| !group.is_empty()).map(str::parse).transpose()?;
        Ok(Self { user, group })
    }
}

string_form!(UserSpec);

impl fmt::Display for UserSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.group {
            Some(group) => write!(f, "{}:{group}", self.user),
            None => write!(f, "{}", self.user),
        }
    }
}

/// Why a user cannot be found in the container's files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnknownAccount {
    /// No line of `/etc/passwd` has this name.
    #[error("no user \"{0}\" in /etc/passwd of the container")]
    User(String),
    /// No line of `/etc/group` has this name.
    #[error("no group \"{0}\" in /etc/group of the container")]
    Group(String),
    /// An account file is larger than [`MAX_ACCOUNT_FILE`] bytes.
    #[error("{0} of the container is larger than {MAX_ACCOUNT_FILE} bytes")]
    TooLarge(&'static str),
}

/// The numbers behind a [`UserSpec`], and the home directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResolvedUser {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Sorted, and always with `gid` in it (CVE-2022-2989).
    pub(crate) additional_gids: Vec<u32>,
    pub(crate) home: String,
}

/// Looks a user up in the container's account files.
///
/// Numbers need not be in the files; names must. Without an explicit group the user also gets
/// the groups that list its name, with one it gets that one alone, as in podman. Who is not in the files is at
/// home where they begin.
pub(crate) fn resolve(
    spec: &UserSpec,
    rootfs: &RootfsFacts,
    working_dir: &str,
) -> Result<ResolvedUser, UnknownAccount> {
    let passwd = bounded(rootfs.passwd.as_deref(), "/etc/passwd")?;
    let group = bounded(rootfs.group.as_deref(), "/etc/group")?;
    let entry = accounts::users(passwd).find(|entry| match &spec.user {
        Account::Id(id) => entry.uid == *id,
        Account::Name(name) => entry.name == name.as_str().as_bytes(),
    });
    let uid = match (&spec.user, entry) {
        (Account::Id(id), _) => *id,
        (Account::Name(_), Some(entry)) => entry.uid,
        (Account::Name(name), None) => return Err(UnknownAccount::User(name.to_string())),
    };
    let gid = match &spec.group {
        Some(wanted) => group_id(wanted, group)?,
        None => entry.map_or(0, |entry| entry.gid),
    };
    let mut additional_gids = vec![gid];
    // Digits are no name among members either: a user that was added by number is called by it, and
    // would be in more groups from the second start on.
    if let (None, Some(entry)) = (&spec.group, entry)
        && !entry.name.iter().all(u8::is_ascii_digit)
    {
        additional_gids.extend(accounts::groups_of(group, entry.name));
    }
    additional_gids.sort_unstable();
    additional_gids.dedup();
    let home = match entry {
        Some(entry) => home(entry.home),
        None => home_of_unknown(uid, working_dir),
    };
    Ok(ResolvedUser { uid, gid, additional_gids, home })
}

/// Adds groups that were asked for.
pub(crate) fn add_groups(
    user: &mut ResolvedUser,
    more: &[Account],
    rootfs: &RootfsFacts,
) -> Result<(), UnknownAccount> {
    let group = bounded(rootfs.group.as_deref(), "/etc/group")?;
    for account in more {
        user.additional_gids.push(group_id(account, group)?);
    }
    user.additional_gids.sort_unstable();
    user.additional_gids.dedup();
    Ok(())
}

/// The home directory of a number; of one that is not in the files, with this working directory.
pub(crate) fn home_of(
    uid: u32,
    rootfs: &RootfsFacts,
    working_dir: &str,
) -> Result<String, UnknownAccount> {
    let spec = UserSpec { user: Account::Id(uid), group: None };
    resolve(&spec, rootfs, working_dir).map(|user| user.home)
}

/// What is written of such a user, and read again at the next start. A path may have a colon, a field may not
/// (B22, CVE-2022-4318).
fn home_of_unknown(uid: u32, working_dir: &str) -> String {
    let fits = uid != 0 && !working_dir.contains(':');
    home(if fits { working_dir.as_bytes() } else { b"/" })
}

fn bounded<'a>(file: Option<&'a [u8]>, path: &'static str) -> Result<&'a [u8], UnknownAccount> {
    match file {
        Some(bytes) if bytes.len() > MAX_ACCOUNT_FILE => Err(UnknownAccount::TooLarge(path)),
        other => Ok(other.unwrap_or_default()),
    }
}

fn group_id(wanted: &Account, group: &[u8]) -> Result<u32, UnknownAccount> {
    match wanted {
        Account::Id(id) => Ok(*id),
        Account::Name(name) => accounts::groups(group)
            .find(|entry| entry.name == name.as_str().as_bytes())
            .map(|entry| entry.gid)
            .ok_or_else(|| UnknownAccount::Group(name.to_string())),
    }
}

/// A home directory out of an image is hostile: only a proper path is taken.
fn home(bytes: &[u8]) -> String {
    let path = std::str::from_utf8(bytes).ok().and_then(|path| path.parse::<AbsolutePath>().ok());
    path.map_or_else(|| "/".to_owned(), |path| path.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
                          www:x:33:33::/srv/www:/bin/false\n\
                          odd:x:34:35::relative:/bin/false\n\
                          1234:x:0:0::/trap:/bin/sh\n\
                          last:x:40:41::/home/last:/bin/sh";
    const GROUP: &str = "root:x:0:\nwww:x:33:\nvideo:x:44:last,www\naudio:x:29:www\n99:x:7:www";

    fn facts(passwd: &[u8], group: &[u8]) -> RootfsFacts {
        let mut facts = RootfsFacts::default();
        (facts.passwd, facts.group) = (Some(passwd.to_vec()), Some(group.to_vec()));
        facts
    }

    fn get(spec: &str) -> Result<(u32, u32, Vec<u32>, String), UnknownAccount> {
        resolve(&spec.parse().unwrap(), &facts(PASSWD.as_bytes(), GROUP.as_bytes()), "/")
            .map(|user| (user.uid, user.gid, user.additional_gids, user.home))
    }

    #[test]
    fn every_form_of_a_user() {
        let ok =
            |uid, gid, more: &[u32], home: &str| Ok((uid, gid, more.to_vec(), home.to_owned()));
        let cases = [
            ("nothing is root", "", ok(0, 0, &[0], "/root")),
            ("name", "www", ok(33, 33, &[7, 29, 33, 44], "/srv/www")),
            ("number in the file", "33", ok(33, 33, &[7, 29, 33, 44], "/srv/www")),
            ("number not in the file", "555", ok(555, 0, &[0], "/")),
            ("with a group", "www:audio", ok(33, 29, &[29], "/srv/www")),
            ("with a group number", "555:77", ok(555, 77, &[77], "/")),
            ("group alone", ":www", ok(0, 33, &[33], "/root")),
            ("empty group", "www:", ok(33, 33, &[7, 29, 33, 44], "/srv/www")),
            ("last line without newline", "last", ok(40, 41, &[41, 44], "/home/last")),
            ("relative home", "odd", ok(34, 35, &[35], "/")),
            ("digits are never a name", "1234", ok(1234, 0, &[0], "/")),
            ("nor of a group", "www:99", ok(33, 99, &[99], "/srv/www")),
            ("unknown name", "bob", Err(UnknownAccount::User("bob".into()))),
            ("unknown group", "www:bobs", Err(UnknownAccount::Group("bobs".into()))),
        ];
        for (about, spec, want) in cases {
            assert_eq!(get(spec), want, "{about}");
        }
    }

    #[test]
    fn without_account_files() {
        let none = RootfsFacts::default();
        let root = resolve(&UserSpec::default(), &none, "/srv").unwrap();
        assert_eq!((root.uid, root.gid, root.home.as_str()), (0, 0, "/"));
        let www = resolve(&"www".parse().unwrap(), &none, "/");
        assert_eq!(www, Err(UnknownAccount::User("www".into())));
    }

    #[test]
    fn oversized_files_are_refused() {
        let facts = facts(&vec![b'x'; MAX_ACCOUNT_FILE + 1], b"");
        let error = resolve(&UserSpec::default(), &facts, "/").unwrap_err();
        assert_eq!(error, UnknownAccount::TooLarge("/etc/passwd"));
    }

    #[test]
    fn specs_that_mean_nothing() {
        for spec in ["2147483648", "4294967296", "a:b:c", "a b", "-1", "a\n", "a,b", "../x", "u:-1"]
        {
            assert!(spec.parse::<UserSpec>().is_err(), "{spec:?}");
        }
        assert!("2147483647".parse::<UserSpec>().is_ok());
        assert!("domain\\user".parse::<UserSpec>().is_ok());
    }

    proptest! {
        #[test]
        fn arbitrary_files_are_survived(
            passwd in proptest::collection::vec(any::<u8>(), 0..400),
            group in proptest::collection::vec(any::<u8>(), 0..400),
            uid in 0_u32..50,
        ) {
            let user = resolve(&uid.to_string().parse().unwrap(), &facts(&passwd, &group), "/").unwrap();
            prop_assert_eq!(user.uid, uid);
            prop_assert!(user.additional_gids.contains(&user.gid));
        }

        // Random bytes hardly ever form a line, so build lines from the characters that matter.
        #[test]
        fn account_lines_never_give_a_bad_home_or_id(
            passwd in "([a1:\r\n\0/.-]|[0-9]{1,11}|root){0,60}",
            user in "(a|root|[0-9]{1,3})(:(a|[0-9]{1,3}))?",
        ) {
            let facts = facts(passwd.as_bytes(), passwd.as_bytes());
            if let Ok(user) = resolve(&user.parse().unwrap(), &facts, "/") {
                prop_assert!(user.uid <= MAX_ID && user.gid <= MAX_ID);
                prop_assert!(user.additional_gids.iter().all(|gid| *gid <= MAX_ID));
                prop_assert!(user.home.parse::<AbsolutePath>().is_ok());
            }
        }

        #[test]
        fn specs_are_read_back(text in "[a-z0-9]{0,3}(:[a-z0-9]{1,3})?") {
            if let Ok(spec) = text.parse::<UserSpec>() {
                prop_assert_eq!(spec.to_string().parse(), Ok(spec));
            }
        }
    }
}
