//! Producers and consumers: several at once, compression, large messages, long waits, timestamps, many partitions.

use std::collections::BTreeMap;

use futures::future::join_all;

use super::*;

#[tokio::test]
async fn two_producers_at_once_and_every_codec() {
    let fixture = Fixture::start().await;
    fixture.create("t", 4).await;
    let sending = ["none", "gzip", "snappy", "lz4", "zstd"].map(|codec| {
        let mut config = fixture.client();
        config.set("compression.type", codec).set("linger.ms", "5").set("enable.idempotence", "true");
        let producer: FutureProducer = config.create().unwrap();
        async move {
            let sent = (0..400).map(|index| {
                let (payload, partition) = (format!("{codec} {index:04}"), index % 4);
                let producer = producer.clone();
                async move {
                    let record = FutureRecord::<(), _>::to("t").payload(&payload).partition(partition);
                    producer.send(record, WAIT).await.unwrap()
                }
            });
            join_all(sent).await
        }
    });
    let mut offsets: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    for delivery in join_all(sending).await.into_iter().flatten() {
        offsets.entry(delivery.partition).or_default().push(delivery.offset);
    }
    for (partition, mut offsets) in offsets {
        offsets.sort_unstable();
        assert_eq!(offsets, (0..500).collect::<Vec<i64>>());
        let mut found = fixture.read("t", partition);
        // Messages of one producer keep their order.
        found.sort_by_key(|message| message.split(' ').next().map(str::to_owned));
        let expect = ["gzip", "lz4", "none", "snappy", "zstd"]
            .into_iter()
            .flat_map(|codec| (0..100).map(move |index| format!("{codec} {:04}", index * 4 + partition)));
        assert_eq!(found, expect.collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn large_messages_pass_and_small_fetches_get_on() {
    let fixture = Fixture::start().await;
    fixture.create("t", 1).await;
    let large = "x".repeat(3 << 20);
    let producer: FutureProducer =
        fixture.client().set("message.max.bytes", "8000000").set("compression.type", "none").create().unwrap();
    for payload in ["a", &large, "b", &large] {
        producer.send(FutureRecord::<(), _>::to("t").payload(payload), WAIT).await.unwrap();
    }
    let mut small = fixture.consumer();
    small.set("fetch.message.max.bytes", "1000").set("fetch.max.bytes", "4000000");
    assert!(read(&small, "t", 0) == ["a", &large, "b", &large]);
}

#[tokio::test]
async fn a_waiting_fetch_is_woken() {
    let fixture = Fixture::start().await;
    fixture.create("t", 1).await;
    let mut config = fixture.consumer();
    // Longer than the test may take.
    config.set("fetch.wait.max.ms", "290000").set("socket.timeout.ms", "300000");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset("t", 0, Offset::Offset(0)).unwrap();
    consumer.assign(&from).unwrap();
    for round in 0..5 {
        let payload = round.to_string();
        fixture.produce("t", &[&payload]).await;
        let message = loop {
            match consumer.poll(WAIT).expect("a message") {
                Ok(message) => break message,
                Err(KafkaError::PartitionEOF(_)) => {}
                Err(other) => panic!("{other}"),
            }
        };
        assert_eq!((message.payload().unwrap(), message.offset()), (payload.as_bytes(), round));
    }
}

#[tokio::test]
async fn offsets_are_found_by_time() {
    let fixture = Fixture::start().await;
    fixture.create("t", 1).await;
    let producer = fixture.producer();
    let times = [1000, 5000, 3000, 9000];
    for time in times {
        let record = FutureRecord::<(), _>::to("t").payload("x").timestamp(time).partition(0);
        producer.send(record, WAIT).await.unwrap();
    }
    let consumer: BaseConsumer = fixture.consumer().create().unwrap();
    for (time, expect) in [(0, Some(0)), (1001, Some(1)), (5000, Some(1)), (5001, Some(3)), (9001, None)] {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_offset("t", 0, Offset::Offset(time)).unwrap();
        let found = consumer.offsets_for_times(asked, WAIT).unwrap();
        let offset = found.elements()[0].offset();
        assert_eq!(offset, expect.map_or(Offset::End, Offset::Offset), "{time}");
    }
}

#[tokio::test]
async fn an_offset_outside_the_log_is_an_error() {
    let fixture = Fixture::start().await;
    fixture.create("t", 1).await;
    fixture.produce("t", &["a"]).await;
    let consumer: BaseConsumer = fixture.consumer().set("auto.offset.reset", "error").create().unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset("t", 0, Offset::Offset(7)).unwrap();
    consumer.assign(&from).unwrap();
    let error = consumer.poll(WAIT).expect("an error").err().unwrap();
    assert_eq!(error.rdkafka_error_code(), Some(rdkafka::error::RDKafkaErrorCode::AutoOffsetReset));
    assert!(consumer.fetch_watermarks("t", 1, WAIT).is_err());
    assert!(consumer.fetch_watermarks("other", 0, WAIT).is_err());
}

#[tokio::test]
async fn a_thousand_partitions() {
    let mut fixture = Fixture::start().await;
    let admin: AdminClient<DefaultClientContext> = fixture.client().create().unwrap();
    let names: Vec<String> = (0..64).map(|index| format!("t{index:02}")).collect();
    let topics: Vec<_> = names.iter().map(|name| NewTopic::new(name, 16, TopicReplication::Fixed(1))).collect();
    for created in admin.create_topics(&topics, &AdminOptions::new()).await.unwrap() {
        created.unwrap();
    }
    let producer = fixture.producer();
    let sent = names.iter().flat_map(|name| {
        let producer = &producer;
        (0..16).map(move |partition| async move {
            let record = FutureRecord::<(), _>::to(name).payload("x").partition(partition);
            producer.send(record, WAIT).await.unwrap()
        })
    });
    assert_eq!(join_all(sent).await.len(), 1024);
    fixture = fixture.restart().await;
    let consumer: BaseConsumer = fixture.consumer().create().unwrap();
    let mut all = TopicPartitionList::new();
    for name in &names {
        all.add_partition_range(name, 0, 15);
    }
    all.set_all_offsets(Offset::Beginning).unwrap();
    consumer.assign(&all).unwrap();
    let mut found = 0;
    while found < 1024 {
        match consumer.poll(WAIT).expect("a message") {
            Ok(_) => found += 1,
            Err(KafkaError::PartitionEOF(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
}
