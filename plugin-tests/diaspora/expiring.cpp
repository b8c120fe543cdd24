/* On a Kafka with a retention of one second: the components of a topic are not deleted. */

#include "support.hpp"

namespace {

using namespace support;

void info_topics_do_not_expire_when_events_do()
{
    const Metadata schema{R"({"type": "schema", "schema": {"type": "object"}})"};
    const auto own = driver();
    own.createTopic(prefix + "expiring", topic_options(1),
                    diaspora::Validator::FromMetadata(schema));
    const auto topic = own.openTopic(prefix + "expiring");
    auto producer = topic.producer();
    /* At its periodic retention check, Kafka deletes a log segment if its last record has
     * expired. */
    bool is_deleted = false;
    for (unsigned value = 0; !is_deleted && value < 60; value++) {
        EXPECT(producer.push(number(value)).wait(timeout_ms));
        std::this_thread::sleep_for(std::chrono::milliseconds(2'000));
        const auto consumer = topic.consumer(unique("reader"));
        const auto first = consumer.pull().wait(2'000);
        is_deleted = !first || number_of(*first) > 0;
    }
    EXPECT(is_deleted);
    EXPECT(driver().openTopic(prefix + "expiring").validator().metadata().json() == schema.json());
}

constexpr test_cases::TestCase all[] = {TEST_CASE(info_topics_do_not_expire_when_events_do)};

} // namespace

int main(int argc, char **argv) { return support::run(argc, argv, all); }
