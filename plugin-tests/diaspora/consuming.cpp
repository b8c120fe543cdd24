/* Tests consuming through the C++ API: positions, targets, pulls, iteration, processing, and the
 * lifetimes of objects. */

#include "support.hpp"

#include <mutex>
#include <set>

namespace {

using namespace support;
using test_cases::Countdown;
using test_cases::mentions;

/* An exception type that is not derived from std::exception. */
struct ProcessorFailure {
    int level;
};

void consumer_starts_after_last_acknowledged_event_of_its_name()
{
    const auto topic = new_topic("acknowledged", 2);
    fill(topic, 40);
    for (const auto &targets : {std::vector<std::size_t>{}, std::vector<std::size_t>{0, 1}}) {
        const auto name = unique("acknowledging");
        std::vector<unsigned> read(2);
        {
            const auto consumer = topic.consumer(name, targets);
            std::vector<diaspora::Event> events;
            while (read[0] < 10 || read[1] < 10) {
                events.push_back(next(consumer));
                read[events.back().partition().json().at("partition_id").get<unsigned>()]++;
            }
            for (const auto &event : events)
                if (event.id() == 6)
                    event.acknowledge();
            for (const auto &event : events)
                if (event.id() == 3)
                    event
                        .acknowledge(); /* acknowledging an earlier event does not move the position */
        }
        {
            const auto consumer = topic.consumer(name, targets);
            std::vector<unsigned> next_id = {7, 7};
            for (unsigned count = 0; count < 26; count++) {
                const auto event = next(consumer);
                EXPECT(event.id() ==
                       next_id.at(event.partition().json().at("partition_id").get<unsigned>())++);
            }
            EXPECT(has_no_event(consumer));
        } /* acknowledged nothing */
        EXPECT(next(topic.consumer(name, targets)).id() == 7);
    }
}

void consumer_with_targets_reads_only_those_partitions()
{
    const auto topic = new_topic("targets", 3);
    fill(topic, 30);
    const auto consumer = topic.consumer(unique("targeted"), std::vector<std::size_t>{2, 0});
    auto numbers = read_numbers(consumer, 20);
    EXPECT(has_no_event(consumer));
    std::sort(numbers.begin(), numbers.end());
    for (const unsigned value : numbers)
        EXPECT(value % 3 != 1);
    for (const std::size_t absent : {std::size_t{3}, std::numeric_limits<std::size_t>::max()})
        EXPECT(mentions(
            THROWN_BY(diaspora::Exception, topic.consumer("x", std::vector<std::size_t>{absent})),
            "partition"));
    EXPECT(mentions(THROWN_BY(diaspora::Exception, topic.consumer("")), "name"));
}

void consumers_of_one_name_share_the_partitions()
{
    const auto topic = new_topic("shared", 2);
    const auto name = unique("sharing");
    const auto first = topic.consumer(name), second = topic.consumer(name);
    std::set<unsigned> of_first, of_second;
    for (unsigned value = 0; (of_first.empty() || of_second.empty()) && value < 1'000; value++) {
        auto producer = topic.producer();
        producer.push(number(value), {}, value);
        EXPECT(producer.flush().wait(timeout_ms));
        if (const auto event = first.pull().wait(50))
            of_first.insert(number_of(*event));
        if (const auto event = second.pull().wait(50))
            of_second.insert(number_of(*event));
    }
    EXPECT(!of_first.empty() && !of_second.empty());
}

void dropped_pull_takes_no_event()
{
    const auto topic = new_topic("dropped", 1);
    const auto consumer = topic.consumer(unique("reader"));
    std::vector<unsigned> numbers;
    EXPECT(!consumer.pull().wait(20));
    fill(topic, 60);
    for (unsigned attempts = 0; numbers.size() < 60 && attempts < 10'000; attempts++) {
        {
            const auto tested = consumer.pull();
            tested.completed();
            const auto unused = consumer.pull();
        }
        if (const auto event = consumer.pull().wait(10))
            numbers.push_back(number_of(*event));
    }
    EXPECT(numbers == from_to(0, 60));
}

void copies_of_a_pull_return_the_same_event_loaded_once()
{
    const auto topic = new_topic("copies", 1);
    std::atomic<unsigned> loaded{0};
    const auto consumer = topic.consumer(
        unique("reader"),
        diaspora::DataAllocator{[&](const Metadata &, const diaspora::DataDescriptor &) {
            std::this_thread::sleep_for(std::chrono::milliseconds(50));
            loaded++;
            return diaspora::DataView{};
        }});
    const auto pulled = consumer.pull();
    EXPECT(!pulled.completed());
    std::atomic<unsigned> resolved{0};
    std::vector<std::thread> threads;
    for (unsigned index = 0; index < 4; index++)
        threads.emplace_back([&, copy = pulled] {
            const auto event = copy.wait(timeout_ms);
            resolved += event && number_of(*event) == 0 ? 1 : 0;
        });
    fill(topic, 2);
    for (auto &thread : threads)
        thread.join();
    EXPECT(resolved == 4 && loaded == 1 && pulled.completed() && number_of(*pulled.wait(0)) == 0);
    EXPECT(number_of(next(consumer)) == 1);
}

void threads_that_share_a_consumer_get_each_event_once()
{
    const auto topic = new_topic("pullers", 2);
    fill(topic, 1'000);
    const auto consumer = topic.consumer(unique("reader"));
    std::mutex mutex;
    std::multiset<unsigned> numbers;
    std::vector<std::thread> threads;
    for (unsigned index = 0; index < 4; index++)
        threads.emplace_back([&] {
            for (;;) {
                {
                    const std::lock_guard<std::mutex> lock(mutex);
                    if (numbers.size() >= 1'000)
                        return;
                }
                if (const auto event = consumer.pull().wait(50)) {
                    const std::lock_guard<std::mutex> lock(mutex);
                    numbers.insert(number_of(*event));
                }
            }
        });
    for (auto &thread : threads)
        thread.join();
    EXPECT(numbers.size() == 1'000 &&
           std::set<unsigned>(numbers.begin(), numbers.end()).size() == 1'000);
}

void iteration_ends_when_no_event_arrives_in_time()
{
    const auto topic = new_topic("iterated", 1);
    fill(topic, 10);
    auto consumer = topic.consumer(unique("reader"));
    std::vector<unsigned> numbers;
    for (const auto &event : consumer)
        numbers.push_back(number_of(event));
    EXPECT(numbers == from_to(0, 10));
}

/* The events that a processor was called with, on any thread. */
class Processed {
public:
    unsigned note(const diaspora::Event &event)
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        numbers_.insert(number_of(event));
        return static_cast<unsigned>(numbers_.size());
    }
    unsigned count() const
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        return static_cast<unsigned>(numbers_.size());
    }
    bool has_each_once(unsigned end) const
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        const auto wanted = from_to(0, end);
        return std::equal(numbers_.begin(), numbers_.end(), wanted.begin(), wanted.end());
    }

private:
    mutable std::mutex mutex_;
    std::multiset<unsigned> numbers_;
};

constexpr auto no_end = diaspora::NumEvents{std::numeric_limits<std::size_t>::max()};

void process_stops_fails_counts_and_times_out_on_any_pool()
{
    const auto topic = new_topic("processed", 2);
    fill(topic, 400);
    for (const auto &pool : all_pools(topic.driver())) {
        auto consumer = interface_of(topic.driver(), topic)
                            ->makeConsumer(unique("processing"), diaspora::BatchSize::Adaptive(),
                                           diaspora::MaxNumBatches{2}, nullptr, {}, {}, {},
                                           Metadata{});
        Processed processed;
        consumer->process(
            [&](const std::optional<diaspora::Event> &event) {
                if (processed.note(*event) == 50)
                    throw diaspora::StopEventProcessor{};
            },
            timeout_ms, no_end, pool);
        EXPECT(processed.count() >= 50 && processed.count() < 400);

        const auto fail = [&](const std::optional<diaspora::Event> &event) {
            processed.note(*event);
            throw ProcessorFailure{7};
        };
        EXPECT(
            THROWN_BY(ProcessorFailure, consumer->process(fail, timeout_ms, no_end, pool)).level ==
            7);

        const unsigned before = processed.count();
        consumer->process(
            [&](const std::optional<diaspora::Event> &event) { processed.note(*event); },
            timeout_ms, diaspora::NumEvents{20}, pool);
        EXPECT(processed.count() == before + 20);

        std::atomic<unsigned> time_outs{0};
        consumer->process(
            [&](const std::optional<diaspora::Event> &event) {
                if (event)
                    processed.note(*event);
                else if (++time_outs >= 2 && processed.count() == 400)
                    throw diaspora::StopEventProcessor{};
            },
            20, no_end, pool);
        EXPECT(processed.has_each_once(400));
    }
}

void process_without_pool_runs_in_caller_and_in_order()
{
    const auto topic = new_topic("in-caller", 1);
    fill(topic, 100);
    const auto consumer = topic.consumer(unique("processing"));
    const auto caller = std::this_thread::get_id();
    std::vector<unsigned> numbers;
    consumer.process(
        [&](const std::optional<diaspora::Event> &event) {
            EXPECT(std::this_thread::get_id() == caller);
            numbers.push_back(number_of(*event));
        },
        timeout_ms, diaspora::NumEvents{100});
    EXPECT(numbers == from_to(0, 100));
    EXPECT(mentions(THROWN_BY(diaspora::Exception, consumer.process({})), "processor"));
}

void concurrent_second_process_is_rejected()
{
    const auto topic = new_topic("second", 1);
    fill(topic, 1);
    const auto pool = topic.driver().makeThreadPool(diaspora::ThreadCount{1});
    const auto consumer = topic.consumer(unique("processing"));
    Countdown begun(1), refused(1);
    std::thread first([&] {
        consumer.process(
            [&](const std::optional<diaspora::Event> &) {
                begun.hit();
                EXPECT(refused.is_over_within(std::chrono::milliseconds(timeout_ms)));
                throw diaspora::StopEventProcessor{};
            },
            -1, no_end, pool);
    });
    EXPECT(begun.is_over_within(std::chrono::milliseconds(timeout_ms)));
    const auto why = THROWN_BY(diaspora::Exception, consumer.process([](const auto &) {}, 10));
    refused.hit();
    first.join();
    EXPECT(mentions(why, "process"));
}

void consumer_piped_into_processor_runs_on_its_own_pool()
{
    const auto topic = new_topic("piped", 1);
    fill(topic, 20);
    Processed processed;
    topic.consumer(unique("piped"), topic.driver().makeThreadPool(diaspora::ThreadCount{2})) |
        [&](const std::optional<diaspora::Event> &event) {
            if (processed.note(*event) == 20)
                throw diaspora::StopEventProcessor{};
        };
    EXPECT(processed.has_each_once(20));
}

void processor_can_push_on_the_pool_that_it_runs_on()
{
    const auto source = new_topic("source", 1), sink = new_topic("sink", 1);
    fill(source, 200);
    for (const auto &pool : all_pools(source.driver())) {
        const auto producer = producer_on(pool, sink);
        auto consumer = interface_of(source.driver(), source)
                            ->makeConsumer(unique("forwarding"), diaspora::BatchSize::Adaptive(),
                                           diaspora::MaxNumBatches{2}, nullptr, {}, {}, {},
                                           Metadata{});
        consumer->process(
            [&](const std::optional<diaspora::Event> &event) {
                producer->push(event->metadata(), {}, {});
            },
            timeout_ms, diaspora::NumEvents{200}, pool);
        EXPECT(producer->flush().wait(timeout_ms));
    }
    EXPECT(read_numbers(sink.consumer(unique("reader")), 600).size() == 600);
}

void events_and_pulls_outlive_consumer_topic_and_driver()
{
    std::optional<diaspora::Event> event;
    std::optional<diaspora::Future<std::optional<diaspora::Event>>> resolved_pull, pending_pull;
    const auto name = unique("gone");
    {
        const auto topic = new_topic("gone", 1);
        fill(topic, 3);
        const auto consumer = topic.consumer(
            name, diaspora::DataAllocator{[](const Metadata &, const diaspora::DataDescriptor &) {
                return diaspora::DataView{};
            }});
        event = next(consumer);
        resolved_pull = consumer.pull();
        EXPECT(resolved_pull->wait(timeout_ms));
        pending_pull = consumer.pull();
        event->acknowledge();
    }
    EXPECT(number_of(*event) == 0 && event->partition().json().at("partition_id") == 0);
    EXPECT(number_of(*resolved_pull->wait(0)) == 1);
    THROWN_BY(diaspora::Exception, pending_pull->wait(timeout_ms));
    THROWN_BY(diaspora::Exception, event->acknowledge());
    EXPECT(number_of(next(driver().openTopic(prefix + "gone").consumer(name))) == 1);
}

void consumer_without_reachable_broker_is_released_in_seconds()
{
    const auto topic = new_topic("away", 1);
    const auto begun = std::chrono::steady_clock::now();
    {
        const auto consumer = topic.consumer(
            "away", Metadata{R"({"kafka": {"bootstrap.servers": "127.0.0.1:1"}})"});
        EXPECT(!consumer.pull().wait(100));
    }
    EXPECT(std::chrono::steady_clock::now() - begun < std::chrono::seconds(8));
}

constexpr test_cases::TestCase all[] = {
    TEST_CASE(consumer_starts_after_last_acknowledged_event_of_its_name),
    TEST_CASE(consumer_with_targets_reads_only_those_partitions),
    TEST_CASE(consumers_of_one_name_share_the_partitions),
    TEST_CASE(dropped_pull_takes_no_event),
    TEST_CASE(copies_of_a_pull_return_the_same_event_loaded_once),
    TEST_CASE(threads_that_share_a_consumer_get_each_event_once),
    TEST_CASE(iteration_ends_when_no_event_arrives_in_time),
    TEST_CASE(process_stops_fails_counts_and_times_out_on_any_pool),
    TEST_CASE(process_without_pool_runs_in_caller_and_in_order),
    TEST_CASE(concurrent_second_process_is_rejected),
    TEST_CASE(consumer_piped_into_processor_runs_on_its_own_pool),
    TEST_CASE(processor_can_push_on_the_pool_that_it_runs_on),
    TEST_CASE(events_and_pulls_outlive_consumer_topic_and_driver),
    TEST_CASE(consumer_without_reachable_broker_is_released_in_seconds),
};

} // namespace

int main(int argc, char **argv) { return support::run(argc, argv, all); }
