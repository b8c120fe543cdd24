/* On a Kafka that forgets what is older than a second: components stay. */

#include "support.hpp"

namespace {

using namespace support;

void info_topics_never_expire_where_events_do()
{
    const Metadata schema{R"({"type": "schema", "schema": {"type": "object"}})"};
    const auto own = driver();
    own.createTopic(prefix + "expiring", topic_options(1), diaspora::Validator::FromMetadata(schema));
    const auto topic = own.openTopic(prefix + "expiring");
    auto producer = topic.producer();
    /* Kafka deletes what is old when it looks, and then what was first is gone: a file of events, if the last of them is old. */
    bool is_gone = false;
    for (unsigned value = 0; !is_gone && value < 60; value++) {
        EXPECT(producer.push(number(value)).wait(patience_ms));
        std::this_thread::sleep_for(std::chrono::milliseconds(2'000));
        const auto consumer = topic.consumer(unique("reader"));
        const auto first = consumer.pull().wait(2'000);
        is_gone = !first || number_of(*first) > 0;
    }
    EXPECT(is_gone);
    EXPECT(driver().openTopic(prefix + "expiring").validator().metadata().json() == schema.json());
}

constexpr promises::Promise all[] = {PROMISE(info_topics_never_expire_where_events_do)};

} // namespace

int main(int argc, char **argv) { return support::run(argc, argv, all); }
