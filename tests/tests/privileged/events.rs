//! What happens, by number: nothing is missing, and who does not listen only misses it for himself.

use std::collections::HashMap;

use system_tests::{
    Client, ERROR, Options, Properties, ROOT, Refused, Tared, on_scratch_host, signal, started,
};
use zbus::{OwnedObjectPath, OwnedVariant};

type Rows = Vec<HashMap<String, OwnedVariant>>;
type Event = (u64, u64, String, String, OwnedObjectPath, HashMap<String, OwnedVariant>);

async fn after(client: &Client, since: u64, max: u32) -> Result<(u64, Vec<Properties>), Refused> {
    let (next, rows): (u64, Rows) = client.manager("GetEvents", &(since, max)).await?;
    Ok((next, rows.into_iter().map(Properties).collect()))
}

async fn seqnum(client: &Client) -> u64 {
    let (_, seqnum): (Rows, u64) = client.manager("ListContainers", &Options::new()).await.unwrap();
    seqnum
}

/// The events that were sent to this client.
fn told(client: &Client) -> Vec<Event> {
    client.messages().iter().filter_map(|message| signal(message, ROOT, "Event")).collect()
}

#[test]
fn privileged_events_are_numbered_without_a_gap_and_not_only_told() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let (client, other) = (tared.client().await, tared.client().await);
        client.import_busybox().await;
        let before = seqnum(&client).await;
        for _ in 0..2 {
            client.manager::<_, ()>("Subscribe", &0_u64).await.unwrap();
        }
        let path = started(&client, "web", "exit 3").await;
        assert_eq!(client.exit(&path).await.code, 3);
        client.remove(&path).await.done();
        let last = seqnum(&client).await;

        let (next, events) = after(&client, before, u32::MAX).await.unwrap();
        assert_eq!(next, last);
        let numbers: Vec<u64> = events.iter().map(|event| event.get("Seqnum")).collect();
        assert_eq!(numbers, (before + 1..=last).collect::<Vec<_>>());
        let of_it: Vec<(String, Properties)> = events
            .iter()
            .filter(|event| event.get::<OwnedObjectPath>("Object") == path)
            .map(|event| (event.get("Action"), Properties(event.get("Attributes"))))
            .collect();
        let words: Vec<&str> = of_it.iter().map(|(action, _)| action.as_str()).collect();
        assert_eq!((words[0], words[words.len() - 1]), ("added", "removed"), "{words:?}");
        let (_, end) = of_it.iter().find(|(action, _)| action == "ended").expect("it has ended");
        assert_eq!(end.get::<i32>("ExitCode"), 3);
        assert_eq!(
            (end.get::<String>("Name"), end.get::<String>("State")),
            ("web".into(), "exited".into())
        );
        let states: Vec<String> =
            of_it[..of_it.len() - 1].iter().map(|(_, it)| it.get("State")).collect();
        assert!(states.contains(&"running".into()), "{states:?}");

        // They came, once each and in order, to the one who wanted them alone.
        client
            .until("the last event", |message| {
                signal::<Event>(message, ROOT, "Event").filter(|event| event.0 == last)
            })
            .await;
        assert_eq!(told(&client).iter().map(|event| event.0).collect::<Vec<_>>(), numbers);
        assert_eq!(told(&other).len(), 0);

        // In parts.
        let (mut at, mut parts) = (before, Vec::new());
        while at < last {
            let (next, events) = after(&other, at, 3).await.unwrap();
            parts.extend(events.iter().map(|event| event.get::<u64>("Seqnum")));
            at = next;
        }
        assert_eq!(parts, numbers);

        client.manager::<_, ()>("Unsubscribe", &()).await.unwrap();
        client.manager::<_, ()>("Unsubscribe", &()).await.unwrap();
        let more = client.create("other", "true").await;
        assert_eq!(told(&client).len(), numbers.len(), "no more of them");

        for wrong in [1, last + 1000, u64::MAX] {
            let refused = after(&client, wrong, 1).await.unwrap_err();
            assert_eq!(refused.name, format!("{ERROR}.EventsLost"), "{wrong}");
        }
        let refused = client.manager::<_, ()>("Subscribe", &1_u64).await.unwrap_err();
        assert_eq!(refused.short(), "InvalidArgs");

        // Another daemon goes on where none has been.
        let last = seqnum(&client).await;
        tared.kill9();
        drop((client, other));
        let mut tared = tared.restart();
        let client = tared.client().await;
        assert!(seqnum(&client).await > last);
        let refused = after(&client, last, 1).await.unwrap_err();
        assert_eq!(refused.name, format!("{ERROR}.EventsLost"));
        let (_, kept) = after(&client, 0, u32::MAX).await.unwrap();
        let seen = kept.iter().any(|event| event.get::<String>("Type") == "container");
        assert!(seen, "what it has found is told");
        client.remove(&more).await.done();
        tared.stop();
    });
}

#[test]
fn privileged_who_subscribes_and_does_not_read_slows_nobody() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = client.create("c", "true").await;
        let before = seqnum(&client).await;
        // A connection that is never read from, beside one that has gone.
        let deaf = zbus::connection::Builder::address(tared.address()).build().await.unwrap();
        for _ in 0..2 {
            let gone = tared.client().await;
            gone.manager::<_, ()>("Subscribe", &0_u64).await.unwrap();
        }
        let manager = "org.tare.Containers1.Manager";
        deaf.call_method(Some("org.tare.Containers1"), ROOT, Some(manager), "Subscribe", &0_u64)
            .await
            .unwrap();
        let _unread = zbus::MessageStream::from(&deaf);
        for number in 0..400 {
            let name = format!("c{number}");
            client.call(&path, "Container", "Rename", &(name.as_str(), 0_u64)).await.unwrap();
        }
        let (_, events) = after(&client, before, u32::MAX).await.unwrap();
        let renamed = events.iter().filter(|event| event.get::<String>("Action") == "changed");
        assert_eq!(renamed.count(), 400);
        client.remove(&path).await.done();
        tared.stop();
    });
}
