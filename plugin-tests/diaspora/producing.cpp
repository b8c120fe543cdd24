/* Tests producing through the C++ API: futures, ordering, the in-flight limit, partitions,
 * failures, and the lifetimes of objects. */

#include "support.hpp"

#include <map>

namespace {

using namespace support;
using test_cases::mentions;

using Pushed = diaspora::Future<std::optional<diaspora::EventID>>;

void futures_are_copied_and_awaited_in_parallel_repeatedly()
{
    const auto producer =
        new_topic("futures", 1).producer(Metadata{R"({"kafka": {"linger.ms": 200}})"});
    const auto pushed = producer.push(number(0));
    EXPECT(!pushed.completed() && !Pushed(pushed).wait(0));
    std::atomic<unsigned> resolved{0};
    std::vector<std::thread> threads;
    for (unsigned index = 0; index < 4; index++)
        threads.emplace_back(
            [&, copy = pushed] { resolved += copy.wait(timeout_ms) == 0U ? 1 : 0; });
    for (auto &thread : threads)
        thread.join();
    EXPECT(resolved == 4 && pushed.completed() && pushed.wait(-1) == 0U);
}

void strict_order_holds_on_pools_and_loose_order_loses_nothing()
{
    constexpr unsigned count = 3'000;
    for (const auto ordering : {diaspora::Ordering::Strict, diaspora::Ordering::Loose}) {
        const bool is_strict = ordering == diaspora::Ordering::Strict;
        const auto topic = new_topic(is_strict ? "strict" : "loose", 1);
        for (const auto &pool : all_pools(topic.driver())) {
            const auto producer = producer_on(pool, topic, ordering);
            EXPECT(producer->ordering() == ordering);
            for (unsigned value = 0; value < count; value++)
                producer->push(number(value), {}, {});
            EXPECT(producer->flush().wait(timeout_ms));
        }
        auto numbers = read_numbers(topic.consumer(unique("reader")), 3 * count);
        for (unsigned run = 0; run < 3; run++) {
            const auto begin = numbers.begin() + run * count, end = begin + count;
            if (!is_strict)
                std::sort(begin, end);
            EXPECT(std::vector<unsigned>(begin, end) == from_to(0, count));
        }
    }
}

void burst_beyond_in_flight_limit_waits_and_is_delivered()
{
    constexpr unsigned count = 20'000;
    const auto topic = new_topic("burst", 1);
    const auto producer = topic.producer(
        Metadata{R"({"kafka": {"queue.buffering.max.messages": 500}})"});
    for (unsigned value = 0; value < count; value++)
        producer.push(number(value));
    EXPECT(diaspora::Producer(producer).flush().wait(timeout_ms));
    const auto last = diaspora::Producer(producer).push(number(count));
    EXPECT(last.wait(timeout_ms) == std::optional<diaspora::EventID>(count));
}

void rejected_or_too_large_push_fails_its_future_only()
{
    const auto own = driver();
    json options = topic_options(1).json();
    options["config"] = {{"max.message.bytes", "2000"}};
    own.createTopic(prefix + "refused", Metadata{options});
    auto producer = own.openTopic(prefix + "refused").producer();
    std::string large(10'000, 'x'), too_large(2'000'000, 'x');
    const auto refused = producer.push(number(0), view(large));
    const auto why = THROWN_BY(diaspora::Exception, refused.wait(timeout_ms));
    EXPECT(mentions(why, prefix + "refused") && mentions(why, "too large") && refused.completed());
    const auto never_sent = producer.push(number(0), view(too_large));
    EXPECT(
        mentions(THROWN_BY(diaspora::Exception, never_sent.wait(timeout_ms)), "message.max.bytes"));
    EXPECT(mentions(THROWN_BY(diaspora::Exception, producer.flush().wait(timeout_ms)),
                    "2 of the events"));
    EXPECT(producer.push(number(1)).wait(timeout_ms) == 0U && producer.flush().wait(timeout_ms));
}

void event_not_delivered_in_time_fails_its_future()
{
    const auto topic = new_topic("undelivered", 1);
    const auto producer = topic.producer(Metadata{
        R"({"kafka": {"bootstrap.servers": "127.0.0.1:1", "delivery.timeout.ms": 200, "linger.ms": 10}})"});
    EXPECT(mentions(THROWN_BY(diaspora::Exception, producer.push(number(0)).wait(timeout_ms)),
                    "127.0.0.1:1"));
}

void events_go_to_requested_partition_else_round_robin()
{
    const auto topic = new_topic("partitions", 3);
    EXPECT(topic.partitions().size() == 3 &&
           topic.partitions()[2].json() == json{{"partition_id", 2}});
    fill(topic, 30);
    const auto producer = topic.producer();
    for (unsigned value = 30; value < 60; value++)
        EXPECT(producer.push(number(value)).wait(timeout_ms) ==
               std::optional<diaspora::EventID>(value / 3));
    const auto consumer = topic.consumer(unique("reader"));
    for (unsigned index = 0; index < 60; index++) {
        const auto event = next(consumer);
        EXPECT(event.partition().json().at("partition_id") == number_of(event) % 3 &&
               event.id() == number_of(event) / 3);
    }
}

void data_is_copied_and_its_views_dropped_before_push_returns()
{
    const auto topic = new_topic("copied", 1);
    for (const auto &pool : all_pools(topic.driver())) {
        const auto producer = producer_on(pool, topic);
        std::string first = "first ", second = "second";
        std::thread::id freed_on;
        const auto pusher = std::this_thread::get_id();
        const auto pushed = producer->push(
            number(0),
            diaspora::DataView{
                {{first.data(), first.size()}, {nullptr, 0}, {second.data(), second.size()}},
                nullptr,
                [&](void *) { freed_on = std::this_thread::get_id(); }},
            {});
        EXPECT(freed_on == pusher);
        first.assign(first.size(), '!');
        second.assign(second.size(), '!');
        EXPECT(pushed.wait(timeout_ms));
    }
    const auto consumer = topic.consumer(unique("reader"), diaspora::DataSelector{select_all},
                                         diaspora::DataAllocator{allocate});
    for (unsigned index = 0; index < 3; index++)
        EXPECT(text_of(next(consumer).data()) == "first second");
}

void flush_starts_when_called_and_covers_all_earlier_pushes()
{
    auto producer = new_topic("flush", 1).producer(Metadata{R"({"kafka": {"linger.ms": 30000}})"});
    const auto pushed = producer.push(number(0));
    producer.flush();
    for (unsigned waited = 0; !pushed.completed() && waited < 10'000; waited += 10)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT(pushed.completed());
    const auto flushed = producer.flush();
    EXPECT(flushed.wait(timeout_ms) && flushed.completed() && flushed.wait(-1));
}

void pushes_are_delivered_after_producer_and_driver_release()
{
    const auto name = prefix + "outlived";
    std::vector<Pushed> pushes;
    {
        const auto topic = new_topic("outlived", 1);
        for (const auto &pool : all_pools(topic.driver())) {
            const auto producer = producer_on(pool, topic);
            for (unsigned value = 0; value < 500; value++)
                pushes.push_back(producer->push(number(value), {}, {}));
        }
    }
    for (const auto &pushed : pushes)
        EXPECT(pushed.wait(timeout_ms));
    EXPECT(read_numbers(driver().openTopic(name).consumer(unique("reader")), 1500).size() == 1500);
}

void small_batch_parameters_do_not_slow_a_producer_down()
{
    const auto topic = new_topic("batches", 1);
    for (const auto &[batch, batches] :
         {std::pair<std::size_t, std::size_t>{1, 2}, {0, 0}, {1, 1}}) {
        auto producer = topic.producer("p", diaspora::BatchSize{batch},
                                       diaspora::MaxNumBatches{batches});
        EXPECT(producer.batchSize().value == batch && producer.maxNumBatch().value == batches);
        const auto begun = std::chrono::steady_clock::now();
        for (unsigned value = 0; value < 20'000; value++)
            producer.push(number(value));
        EXPECT(producer.flush().wait(timeout_ms));
        EXPECT(std::chrono::steady_clock::now() - begun < std::chrono::seconds(10));
    }
}

void threads_that_share_a_producer_lose_no_events()
{
    const auto topic = new_topic("threads", 2);
    for (const auto &pool : all_pools(topic.driver())) {
        const auto producer = producer_on(pool, topic);
        std::vector<std::thread> threads;
        for (unsigned index = 0; index < 4; index++)
            threads.emplace_back([&, index] {
                for (unsigned value = 0; value < 500; value++)
                    producer->push(number(index * 1000 + value), {}, index);
            });
        for (auto &thread : threads)
            thread.join();
        EXPECT(producer->flush().wait(timeout_ms));
    }
    std::map<unsigned, unsigned> next_of;
    for (const unsigned value : read_numbers(topic.consumer(unique("reader")), 6'000)) {
        unsigned &expected = next_of[value / 1000];
        EXPECT(value % 1000 == expected % 500);
        expected++;
    }
}

constexpr test_cases::TestCase all[] = {
    TEST_CASE(futures_are_copied_and_awaited_in_parallel_repeatedly),
    TEST_CASE(strict_order_holds_on_pools_and_loose_order_loses_nothing),
    TEST_CASE(burst_beyond_in_flight_limit_waits_and_is_delivered),
    TEST_CASE(rejected_or_too_large_push_fails_its_future_only),
    TEST_CASE(event_not_delivered_in_time_fails_its_future),
    TEST_CASE(events_go_to_requested_partition_else_round_robin),
    TEST_CASE(data_is_copied_and_its_views_dropped_before_push_returns),
    TEST_CASE(flush_starts_when_called_and_covers_all_earlier_pushes),
    TEST_CASE(pushes_are_delivered_after_producer_and_driver_release),
    TEST_CASE(small_batch_parameters_do_not_slow_a_producer_down),
    TEST_CASE(threads_that_share_a_producer_lose_no_events),
};

} // namespace

int main(int argc, char **argv) { return support::run(argc, argv, all); }
