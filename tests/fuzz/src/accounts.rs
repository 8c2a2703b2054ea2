//! `/etc/passwd` and `/etc/group` of an image. The first line says who is to run, the others are the file.

use serde_json::{Value, json};
use tare_specgen::{Generated, MAX_ID, UserSpec};

use crate::Verdict;
use crate::config::{Container, document, texts};
use crate::text::{assert_plain, assert_told_plainly};

const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nwww:x:33:33::/srv/www:/bin/false\n";
const GROUP: &[u8] = b"root:x:0:\nwww:x:33:\nvideo:x:44:www,1234\n";

pub(crate) fn passwd(data: &[u8]) -> Verdict {
    let (user, file) = split(data);
    check(&user, [file, GROUP])
}

pub(crate) fn group(data: &[u8]) -> Verdict {
    let (user, file) = split(data);
    check(&user, [PASSWD, file])
}

/// Who cannot be anybody is somebody whom no file knows.
fn split(data: &[u8]) -> (UserSpec, &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let user = std::str::from_utf8(&data[..end]).ok().and_then(|text| text.parse().ok());
    let file = data.get(end + 1..).unwrap_or_default();
    (user.unwrap_or_else(|| "1234:5678".parse().unwrap()), file)
}

fn check(user: &UserSpec, files: [&[u8]; 2]) -> Verdict {
    let mut container = Container::new();
    container.rootfs.passwd = Some(files[0].to_vec());
    container.rootfs.group = Some(files[1].to_vec());
    let request = json!({ "User": user.to_string() });
    let made = match container.generate(request.clone()) {
        Ok(made) => made,
        Err(error) => {
            assert_told_plainly(&error);
            return Verdict::Refused;
        }
    };
    assert_somebody(&document(&made), user);
    let [passwd, group] = ["/etc/passwd", "/etc/group"].map(|path| written(&made, path));
    assert_one_line_more(files[0], passwd, 7);
    assert_one_line_more(files[1], group, 4);

    // A second start finds the files as the first one left them.
    container.rootfs.passwd = Some(passwd.unwrap_or(files[0]).to_vec());
    container.rootfs.group = Some(group.unwrap_or(files[1]).to_vec());
    let again = container.generate(request).unwrap();
    assert_eq!(again.rootfs_files, [], "they know whoever was added");
    assert_eq!(document(&again)["process"], document(&made)["process"]);
    Verdict::Taken
}

/// Numbers in their bounds, the group among the groups, and a number is who it says.
fn assert_somebody(config: &Value, asked: &UserSpec) {
    let process = &config["process"];
    let number = |value: &Value| u32::try_from(value.as_u64().unwrap()).unwrap();
    let (uid, gid) = (number(&process["user"]["uid"]), number(&process["user"]["gid"]));
    let groups = process["user"]["additionalGids"].as_array().unwrap();
    let groups: Vec<u32> = groups.iter().map(number).collect();
    assert!(groups.contains(&gid), "{gid} is not among {groups:?}");
    assert!(groups.is_sorted_by(|a, b| a < b), "{groups:?}");
    assert!(groups.iter().chain([&uid]).all(|id| *id <= MAX_ID), "{uid} {groups:?}");
    let asked = asked.to_string();
    let (user, group) = asked.split_once(':').unwrap_or((&asked, ""));
    for (asked, got) in [(user, uid), (group, gid)] {
        assert!(asked.parse().is_ok_and(|asked: u32| asked == got) || !is_number(asked), "{asked}");
    }
    for entry in texts(&process["env"]) {
        assert!(!entry.contains('\0'), "{entry:?}");
        if let Some(home) = entry.strip_prefix("HOME=") {
            assert_plain(home);
            assert!(home.starts_with('/') && !home.split('/').any(|part| part == ".."), "{home}");
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn written<'m>(made: &'m Generated, path: &str) -> Option<&'m [u8]> {
    let file = made.rootfs_files.iter().find(|file| file.path.as_str() == path)?;
    Some(&file.content)
}

/// All that was in the file is in it as it was, then comes one line of so many fields.
fn assert_one_line_more(before: &[u8], after: Option<&[u8]>, fields: usize) {
    let Some(after) = after else { return };
    let mut line = after.strip_prefix(before).expect("nothing is lost");
    if before.last().is_some_and(|byte| *byte != b'\n') {
        line = line.strip_prefix(b"\n").expect("it does not run into the last line");
    }
    let line = std::str::from_utf8(line).unwrap().strip_suffix('\n').expect("it ends");
    assert_plain(line);
    assert_eq!(line.split(':').count(), fields, "{line}");
}
