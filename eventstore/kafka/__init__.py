"""The log on a Kafka topic that is partitioned by thread id. A stranger to every other engine."""
