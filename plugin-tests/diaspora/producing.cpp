/* Producing through the C++ API: futures, order, room, partitions, what fails, and what may be gone meanwhile. */

#include "support.hpp"

#include <map>

namespace {

using namespace support;
using promises::mentions;

using Pushed = diaspora::Future<std::optional<diaspora::EventID>>;

void futures_are_copied_and_waited_on_in_parallel_and_again()
{
    const auto producer = new_topic("futures", 1).producer(Metadata{R"({"kafka": {"linger.ms": 200}})"});
    const auto pushed = producer.push(number(0));
    EXPECT(!pushed.completed() && !Pushed(pushed).wait(0));
    std::atomic<unsigned> told{0};
    std::vector<std::thread> threads;
    for (unsigned index = 0; index < 4; index++)
        threads.emplace_back([&, copy = pushed] { told += copy.wait(patience_ms) == 0U ? 1 : 0; });
    for (auto &thread : threads)
        thread.join();
    EXPECT(told == 4 && pushed.completed() && pushed.wait(-1) == 0U);
}

void strict_order_holds_on_pools_of_four_and_loose_order_loses_nothing()
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
            EXPECT(producer->flush().wait(patience_ms));
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

void a_burst_beyond_the_room_waits_for_room()
{
    constexpr unsigned count = 20'000;
    const auto topic = new_topic("burst", 1);
    const auto producer = topic.producer(Metadata{R"({"kafka": {"queue.buffering.max.messages": 500}})"});
    for (unsigned value = 0; value < count; value++)
        producer.push(number(value));
    EXPECT(diaspora::Producer(producer).flush().wait(patience_ms));
    const auto last = diaspora::Producer(producer).push(number(count));
    EXPECT(last.wait(patience_ms) == std::optional<diaspora::EventID>(count));
}

void a_push_that_the_broker_refuses_or_that_is_too_large_fails_its_future_and_no_other()
{
    const auto own = driver();
    json options = topic_options(1).json();
    options["config"] = {{"max.message.bytes", "2000"}};
    own.createTopic(prefix + "refused", Metadata{options});
    auto producer = own.openTopic(prefix + "refused").producer();
    std::string large(10'000, 'x'), too_large(2'000'000, 'x');
    const auto refused = producer.push(number(0), view(large));
    const auto why = THROWN_BY(diaspora::Exception, refused.wait(patience_ms));
    EXPECT(mentions(why, prefix + "refused") && mentions(why, "too large") && refused.completed());
    const auto never_sent = producer.push(number(0), view(too_large));
    EXPECT(mentions(THROWN_BY(diaspora::Exception, never_sent.wait(patience_ms)), "message.max.bytes"));
    EXPECT(mentions(THROWN_BY(diaspora::Exception, producer.flush().wait(patience_ms)), "2 of the events"));
    EXPECT(producer.push(number(1)).wait(patience_ms) == 0U && producer.flush().wait(patience_ms));
}

void an_event_that_cannot_be_delivered_in_time_fails_its_future()
{
    const auto topic = new_topic("undelivered", 1);
    const auto producer = topic.producer(
        Metadata{R"({"kafka": {"bootstrap.servers": "127.0.0.1:1", "delivery.timeout.ms": 200, "linger.ms": 10}})"});
    EXPECT(mentions(THROWN_BY(diaspora::Exception, producer.push(number(0)).wait(patience_ms)), "127.0.0.1:1"));
}

void events_land_in_the_partition_asked_for_else_in_one_after_the_other()
{
    const auto topic = new_topic("partitions", 3);
    EXPECT(topic.partitions().size() == 3 && topic.partitions()[2].json() == json{{"partition_id", 2}});
    fill(topic, 30);
    const auto producer = topic.producer();
    for (unsigned value = 30; value < 60; value++)
        EXPECT(producer.push(number(value)).wait(patience_ms) == std::optional<diaspora::EventID>(value / 3));
    const auto consumer = topic.consumer(unique("reader"));
    for (unsigned index = 0; index < 60; index++) {
        const auto event = next(consumer);
        EXPECT(event.partition().json().at("partition_id") == number_of(event) % 3 && event.id() == number_of(event) / 3);
    }
}

void data_is_copied_and_its_views_are_dropped_before_push_returns()
{
    const auto topic = new_topic("copied", 1);
    for (const auto &pool : all_pools(topic.driver())) {
        const auto producer = producer_on(pool, topic);
        std::string first = "first ", second = "second";
        std::thread::id freed_on;
        const auto pusher = std::this_thread::get_id();
        const auto pushed = producer->push(
            number(0),
            diaspora::DataView{{{first.data(), first.size()}, {nullptr, 0}, {second.data(), second.size()}},
                               nullptr,
                               [&](void *) { freed_on = std::this_thread::get_id(); }},
            {});
        EXPECT(freed_on == pusher);
        first.assign(first.size(), '!');
        second.assign(second.size(), '!');
        EXPECT(pushed.wait(patience_ms));
    }
    const auto consumer = topic.consumer(
        unique("reader"), diaspora::DataSelector{[](const Metadata &, const diaspora::DataDescriptor &all) { return all; }},
        diaspora::DataAllocator{[](const Metadata &, const diaspora::DataDescriptor &selected) {
            auto *memory = new std::string(selected.size(), ' ');
            return diaspora::DataView{memory->data(), memory->size(), memory, [memory](void *) { delete memory; }};
        }});
    for (unsigned index = 0; index < 3; index++)
        EXPECT(text_of(next(consumer).data()) == "first second");
}

void a_flush_acts_when_it_is_called_and_ends_when_all_pushed_before_is_delivered()
{
    auto producer = new_topic("flush", 1).producer(Metadata{R"({"kafka": {"linger.ms": 30000}})"});
    const auto pushed = producer.push(number(0));
    producer.flush();
    for (unsigned waited = 0; !pushed.completed() && waited < 10'000; waited += 10)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT(pushed.completed());
    const auto flushed = producer.flush();
    EXPECT(flushed.wait(patience_ms) && flushed.completed() && flushed.wait(-1));
}

void what_was_pushed_is_delivered_and_told_when_producer_topic_and_driver_are_gone()
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
        EXPECT(pushed.wait(patience_ms));
    EXPECT(read_numbers(driver().openTopic(name).consumer(unique("reader")), 1500).size() == 1500);
}

void small_batch_parameters_tune_and_never_make_a_producer_crawl()
{
    const auto topic = new_topic("batches", 1);
    for (const auto &[batch, batches] : {std::pair<std::size_t, std::size_t>{1, 2}, {0, 0}, {1, 1}}) {
        auto producer = topic.producer("p", diaspora::BatchSize{batch}, diaspora::MaxNumBatches{batches});
        EXPECT(producer.batchSize().value == batch && producer.maxNumBatch().value == batches);
        const auto begun = std::chrono::steady_clock::now();
        for (unsigned value = 0; value < 20'000; value++)
            producer.push(number(value));
        EXPECT(producer.flush().wait(patience_ms));
        EXPECT(std::chrono::steady_clock::now() - begun < std::chrono::seconds(10));
    }
}

void many_threads_push_through_one_producer_and_nothing_is_lost()
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
        EXPECT(producer->flush().wait(patience_ms));
    }
    std::map<unsigned, unsigned> next_of;
    for (const unsigned value : read_numbers(topic.consumer(unique("reader")), 6'000)) {
        unsigned &expected = next_of[value / 1000];
        EXPECT(value % 1000 == expected % 500);
        expected++;
    }
}

constexpr promises::Promise all[] = {
    PROMISE(futures_are_copied_and_waited_on_in_parallel_and_again),
    PROMISE(strict_order_holds_on_pools_of_four_and_loose_order_loses_nothing),
    PROMISE(a_burst_beyond_the_room_waits_for_room),
    PROMISE(a_push_that_the_broker_refuses_or_that_is_too_large_fails_its_future_and_no_other),
    PROMISE(an_event_that_cannot_be_delivered_in_time_fails_its_future),
    PROMISE(events_land_in_the_partition_asked_for_else_in_one_after_the_other),
    PROMISE(data_is_copied_and_its_views_are_dropped_before_push_returns),
    PROMISE(a_flush_acts_when_it_is_called_and_ends_when_all_pushed_before_is_delivered),
    PROMISE(what_was_pushed_is_delivered_and_told_when_producer_topic_and_driver_are_gone),
    PROMISE(small_batch_parameters_tune_and_never_make_a_producer_crawl),
    PROMISE(many_threads_push_through_one_producer_and_nothing_is_lost),
};

} // namespace

int main(int argc, char **argv) { return support::run(argc, argv, all); }
