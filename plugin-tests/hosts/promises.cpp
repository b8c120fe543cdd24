/*
 * A host in C++ that uses octopus.hpp, which wraps the whole ABI: tests the guarantees of the
 * Diaspora API through the C++ handles, exceptions and callbacks. Uses a real Kafka.
 *
 *     c++ -std=c++17 -I include -o promises plugin-tests/hosts/promises.cpp -L DIR -loctopus -Wl,-rpath,DIR
 *     ./promises localhost:9092 a-prefix-for-topics
 */

#include "scenario.hpp"

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stdexcept>
#include <thread>
#include <type_traits>

namespace {

using namespace scenario;
using octopus::Delivered;
using octopus::Error;
using octopus::Flow;
using test_cases::Countdown;
using test_cases::mentions;

void handles_are_move_only_and_released_in_any_order()
{
    static_assert(!std::is_copy_constructible_v<octopus::Driver> &&
                  std::is_nothrow_move_constructible_v<octopus::Driver>);
    static_assert(!std::is_copy_constructible_v<octopus::Event> &&
                  std::is_nothrow_move_constructible_v<octopus::Event>);
    static_assert(!std::is_copy_constructible_v<octopus::Push> &&
                  std::is_nothrow_move_assignable_v<octopus::Push>);
    std::optional<octopus::Driver> first(driver());
    std::optional<octopus::Topic> topic(new_topic(*first, "any-order", 1));
    EXPECT(topic->name() == prefix + "any-order" && topic->partition_count() == 1);
    EXPECT(topic->components().find(R"({"type":"default"})") != std::string_view::npos);
    std::optional<octopus::Producer> producer(topic->producer({"p"}));
    std::optional<octopus::Consumer> consumer(reader(*topic));
    first.reset();
    topic.reset();
    octopus::Push push = producer->push({"[1]", "ab", 0, false, {"cd", "", "e"}});
    producer.reset();
    octopus::Push moved = std::move(push);
    const std::optional<Delivered> delivered = moved.wait(timeout);
    EXPECT(delivered && delivered->id == 0 && delivered->partition == 0);
    octopus::Pull pull = consumer->pull();
    std::optional<octopus::Event> event = pull.wait(timeout);
    consumer.reset();
    EXPECT(event && event->metadata() == "[1]" && event->data() == "abcde" &&
           event->timestamp() > 0ms);
    const octopus::Event shared = event->share();
    event.reset();
    EXPECT(shared.data() == "abcde" && shared.serialized_metadata().substr(8) == "[1]" &&
           !shared.is_end_of_topic());
    EXPECT(pull.wait(0ms)->id() == 0);
}

void driver_creates_finds_lists_and_deletes_topics()
{
    const octopus::Driver driver = scenario::driver({}, R"("namespace": ")" + prefix +
                                                            R"(", "open_retry_ms": 0)");
    EXPECT(!driver.topic_exists("listed"));
    const Error unknown = THROWN_BY(Error, driver.open_topic("listed"));
    EXPECT(unknown.status() == OCTOPUS_UNKNOWN_TOPIC && mentions(unknown, "listed"));
    driver.create_topic("listed", {R"({"replication_factor": 1})",
                                   R"({"type": "schema", "schema": {"type": "integer"}})"});
    EXPECT(THROWN_BY(Error, driver.create_topic("listed")).status() == OCTOPUS_TOPIC_EXISTS);
    EXPECT(driver.topic_exists("listed") &&
           driver.list_topics().find(R"("listed":{"validator":{"type")") != std::string::npos);
    EXPECT(driver.describe().find(prefix) != std::string::npos &&
           driver.default_thread_pool().thread_count() == 0);
    const octopus::Producer producer = driver.open_topic("listed").producer();
    EXPECT(driver.stats().delivered == 0 && driver.stats().oldest_event_ms == -1 &&
           driver.stats().clients >= 2);
    EXPECT(driver.stats_json().find(R"("producers":[{"name":"","topic":")" + prefix) !=
           std::string::npos);
    EXPECT(THROWN_BY(Error, producer.push({"\"no integer\""})).status() ==
           OCTOPUS_INVALID_METADATA);
    driver.empty_topic("listed");
    driver.delete_topic("listed");
    EXPECT(!driver.topic_exists("listed"));
    EXPECT(THROWN_BY(Error, octopus::Driver(library(), R"({"kafka": 3})")).status() ==
           OCTOPUS_INVALID_CONFIGURATION);
    EXPECT(mentions(THROWN_BY(std::runtime_error, octopus::Library(nullptr)), "ABI"));
}

void failures_throw_their_status_and_timeouts_do_not()
{
    const octopus::Topic topic = new_topic("failures", 1);
    const octopus::Producer producer = topic.producer(
        {"p", R"({"kafka": {"message.max.bytes": 2000}})"});
    const std::string large(producer.max_event_size() + 1, 'x');
    EXPECT(THROWN_BY(Error, producer.push({""})).status() == OCTOPUS_INVALID_METADATA);
    EXPECT(mentions(THROWN_BY(Error, producer.push({"1", large})), "message.max.bytes"));
    EXPECT(producer.close(timeout));
    EXPECT(THROWN_BY(Error, producer.push({"1"})).status() == OCTOPUS_CLOSED);
    const octopus::Consumer consumer = reader(topic);
    EXPECT(!consumer.next(a_moment) && consumer.pull_many(3, 10ms).empty() &&
           !consumer.pull().is_done());
    EXPECT(consumer.close(timeout));
    EXPECT(THROWN_BY(Error, consumer.pull().wait(timeout)).status() == OCTOPUS_CLOSED);
    EXPECT(THROWN_BY(Error, topic.consumer("")).status() == OCTOPUS_INVALID_ARGUMENT);
    const octopus::Topic away = driver().open_topic(topic.name());
    const octopus::Producer refused = away.producer(
        {"p",
         R"({"kafka": {"delivery.timeout.ms": 100, "linger.ms": 50, "bootstrap.servers": "127.0.0.1:1"}})"});
    const Error undelivered = THROWN_BY(Error, refused.push({"1"}).wait(timeout));
    EXPECT(undelivered.kafka_code() == -192 && undelivered.is_possibly_persisted());
}

void push_many_and_pull_many_transfer_several_events()
{
    const octopus::Topic topic = new_topic("many", 1);
    const octopus::Producer producer = topic.producer();
    std::exception_ptr refusal;
    EXPECT(producer.push_many({{"0", "a"}, {"1", "", {}, false, {"b", "c"}}}, refusal).size() ==
               2 &&
           !refusal);
    EXPECT(producer.push_many({{"2"}, {"no JSON"}, {"3"}}, refusal).size() == 1 && refusal);
    EXPECT(THROWN_BY(Error, std::rethrow_exception(refusal)).status() == OCTOPUS_INVALID_METADATA);
    EXPECT(producer.flush().wait(timeout));
    const octopus::Consumer consumer = reader(topic);
    std::vector<octopus::Event> events;
    while (events.size() < 3)
        for (octopus::Event &event : consumer.pull_many(10, timeout))
            events.push_back(std::move(event));
    EXPECT(events[0].data() == "a" && events[1].data() == "bc" && events[2].data().empty());
}

void key_headers_and_timestamp_are_those_of_the_push()
{
    const octopus::Topic topic = new_topic("attributes", 1);
    const octopus::Producer producer = topic.producer({"p", R"({"records": "json"})"});
    EXPECT(producer.record_format() == OCTOPUS_RECORD_JSON);
    octopus::NewEvent first{"1"}, second{"2"};
    const octopus::milliseconds now = std::chrono::duration_cast<octopus::milliseconds>(
        std::chrono::system_clock::now().time_since_epoch());
    first.key = std::string_view("k\0y", 3);
    first.headers = {{"name", "value"}, {"empty", ""}, {"none", {}}};
    first.timestamp = now - 1h;
    second.key = "";
    std::exception_ptr refusal;
    EXPECT(producer.push_many({first, second}, refusal).size() == 2 && !refusal);
    EXPECT(producer.push({"3"}).wait(timeout));
    first.headers[0].name = "";
    EXPECT(mentions(THROWN_BY(Error, producer.push(first)), "header without a name"));
    const octopus::Consumer consumer = topic.consumer("g", {R"({"records": "auto"})"});
    const octopus::Event read = *consumer.next(timeout);
    const std::vector<octopus::Header> headers = read.headers();
    EXPECT(read.key() == first.key && headers.size() == 3 && headers[0].name == "name" &&
           headers[0].value == "value" && headers[1].value == "" && !headers[2].value);
    EXPECT(read.timestamp() == *first.timestamp &&
           read.timestamp_type() == OCTOPUS_TIMESTAMP_CREATE);
    const octopus::Event keyed = *consumer.next(timeout), last = *consumer.next(timeout);
    EXPECT(keyed.key() == "" && keyed.headers().empty() && !last.key() &&
           last.timestamp() >= now - 1min);
}

void futures_are_shared_awaited_in_parallel_and_call_back()
{
    const octopus::Topic topic = new_topic("futures", 1);
    const octopus::Producer producer = topic.producer({"p", R"({"kafka": {"linger.ms": 100}})"});
    const octopus::Push push = producer.push({"7"});
    std::atomic<unsigned> resolved{0};
    std::vector<std::thread> threads;
    for (unsigned index = 0; index < 4; index++)
        threads.emplace_back(
            [&, own = push.share()] { resolved += own.wait(timeout)->id == 0 ? 1 : 0; });
    for (std::thread &thread : threads)
        thread.join();
    EXPECT(resolved == 4 && push.is_done() && push.wait(0ms)->id == 0);
    Countdown calls(3);
    producer.push({"8"}).on_complete(
        [&](octopus::Push &done) { done.wait(0ms)->id == 1 ? calls.hit() : void(); });
    producer.flush().on_complete(
        [&](octopus::Flush &done) { done.wait(0ms) ? calls.hit() : void(); });
    const octopus::Consumer consumer = reader(topic);
    consumer.pull().on_complete(
        [&](octopus::Pull &done) { number_of(*done.wait(0ms)) == 7 ? calls.hit() : void(); });
    EXPECT(calls.is_over_within(timeout));
}

void dropped_pull_takes_no_event()
{
    const octopus::Topic topic = new_topic("dropped", 1);
    fill(topic, 50);
    const octopus::Consumer consumer = reader(topic);
    std::vector<octopus::Pull> dropped;
    for (unsigned index = 0; index < 10; index++)
        dropped.push_back(consumer.pull());
    const std::vector<unsigned> first = read_numbers(consumer, 20);
    dropped.clear();
    std::vector<unsigned> all = first;
    for (const unsigned number : read_numbers(consumer, 30))
        all.push_back(number);
    EXPECT(all == up_to(50));
}

/* Writes the number of the event as its metadata, and checks that the events are selected in
 * order. */
class Numbered : public octopus::Preparation {
public:
    Numbered(unsigned number, std::atomic<unsigned> &next) : number_(number), next_(next) {}

    void prepare(const std::vector<std::string_view> &data,
                 const octopus::Output &metadata) override
    {
        std::this_thread::sleep_for(std::chrono::microseconds((number_ % 4) * 200));
        if (data.at(0) == "unwanted")
            throw std::invalid_argument("unwanted data");
        const std::string text = std::to_string(number_);
        const std::uint64_t size = text.size();
        metadata.append(std::string_view(reinterpret_cast<const char *>(&size), sizeof size));
        metadata.append(text);
    }

    std::uint32_t select(std::optional<std::uint64_t>, std::uint32_t partitions) override
    {
        if (next_++ != number_)
            throw 3;
        return number_ % partitions;
    }

private:
    unsigned number_;
    std::atomic<unsigned> &next_;
};

void strict_order_holds_on_pool_with_host_preparations()
{
    const octopus::Topic topic = new_topic("strict", 2);
    const octopus::ThreadPool pool(library(), 4);
    octopus::ProducerOptions how;
    how.pool = &pool;
    const octopus::Producer producer = topic.producer(how);
    std::atomic<unsigned> next_number{0};
    std::vector<octopus::Push> pushes;
    for (unsigned number = 0; number < 300; number++) {
        const std::string data = number == 100 ? "unwanted" : "wanted";
        pushes.push_back(
            producer.push({"", data}, std::make_unique<Numbered>(number < 100 ? number : number - 1,
                                                                 next_number)));
    }
    EXPECT(mentions(THROWN_BY(Error, producer.flush().wait(timeout)), "unwanted data"));
    EXPECT(THROWN_BY(Error, pushes[100].wait(timeout)).status() == OCTOPUS_CALLBACK_FAILED);
    const octopus::Push out_of_order = producer.push({"", "wanted"},
                                                     std::make_unique<Numbered>(0, next_number));
    EXPECT(mentions(THROWN_BY(Error, out_of_order.wait(timeout)), "not a std::exception"));
    std::map<std::uint32_t, unsigned> next = {{0, 0}, {1, 1}};
    const octopus::Consumer consumer = reader(topic);
    for (unsigned count = 0; count < 299; count++) {
        const auto event = consumer.next(timeout);
        EXPECT(event && number_of(*event) == next[event->partition()]);
        next[event->partition()] += 2;
    }
}

void process_stops_or_rethrows_from_any_thread()
{
    const octopus::Topic topic = new_topic("process", 2);
    fill(topic, 200);
    for (const std::uint64_t threads : {0, 3}) {
        const octopus::ThreadPool pool(library(), threads);
        octopus::Processing how;
        how.pool = &pool;
        const octopus::Consumer consumer = reader(topic, "stopping-" + std::to_string(threads));
        std::mutex mutex;
        std::multiset<unsigned> numbers;
        const auto note = [&](const octopus::Event &event) {
            const std::lock_guard<std::mutex> lock(mutex);
            numbers.insert(number_of(event));
            return numbers.size();
        };
        consumer.process(
            [&](octopus::Event *event) { return note(*event) == 50 ? Flow::stop : Flow::go_on; },
            how);
        EXPECT(numbers.size() >= 50);
        const auto fails = [&](octopus::Event *event) -> Flow {
            note(*event);
            throw std::range_error("had enough");
        };
        EXPECT(mentions(THROWN_BY(std::range_error, consumer.process(fails, how)), "had enough"));
        how.max_events = 10;
        const std::size_t before = numbers.size();
        consumer.process([&](octopus::Event *event) { return note(*event), Flow::go_on; }, how);
        EXPECT(before > 50 && numbers.size() == before + 10);

        how.max_events = UINT64_MAX;
        how.timeout = 20ms;
        unsigned time_outs = 0;
        consumer.process(
            [&](octopus::Event *event) {
                if (event)
                    return note(*event), Flow::go_on;
                const std::lock_guard<std::mutex> lock(mutex);
                return ++time_outs >= 3 && numbers.size() == 200 ? Flow::stop : Flow::go_on;
            },
            how);
        EXPECT(std::adjacent_find(numbers.begin(), numbers.end()) == numbers.end());
    }
}

void targets_are_read_and_positions_sought_and_committed()
{
    const octopus::Topic topic = new_topic("targets", 3);
    fill(topic, 30);
    octopus::ConsumerOptions how;
    how.targets = {1};
    {
        const octopus::Consumer consumer = reader(topic, "group", how);
        std::optional<octopus::Event> last;
        for (unsigned count = 0; count < 4; count++)
            last = consumer.next(timeout);
        EXPECT(last && last->partition() == 1 && number_of(*last) == 10);
        EXPECT(consumer.assignment() == std::vector<std::uint32_t>{1});
        EXPECT(consumer.position(1) == 4 && consumer.lag(1) == 6 && !consumer.committed(1));
        last->acknowledge();
        EXPECT(consumer.commit(timeout) && consumer.committed(1) == 4);
        consumer.seek(1, 9);
        EXPECT(number_of(*consumer.next(timeout)) == 28 && !consumer.next(a_moment));
        EXPECT(THROWN_BY(Error, consumer.position(2)).status() == OCTOPUS_INVALID_ARGUMENT);
        consumer.unsubscribe();
        EXPECT(THROWN_BY(Error, last->acknowledge()).status() == OCTOPUS_STALE);
    }
    EXPECT(number_of(*reader(topic, "group", how).next(timeout)) == 13);
    how.targets = {3};
    EXPECT(THROWN_BY(Error, reader(topic, "group", how)).status() == OCTOPUS_INVALID_ARGUMENT);
}

void transaction_stores_events_and_positions_together()
{
    const octopus::Topic input = new_topic("transaction-input", 1);
    const octopus::Topic output = new_topic("transaction-output", 1);
    fill(input, 4);
    octopus::ConsumerOptions reading;
    reading.options = R"({"commits": "transaction"})";
    const octopus::Consumer consumer = reader(input, "forwarding", reading);
    octopus::ProducerOptions writing;
    const std::string id = R"({"transactional_id": ")" + prefix + R"(forwarding"})";
    writing.options = id;
    const octopus::Producer producer = output.producer(writing);
    EXPECT(THROWN_BY(Error, producer.push({"0"})).status() == OCTOPUS_INVALID_ARGUMENT);
    for (const bool is_committed : {false, true}) {
        producer.begin_transaction({&consumer});
        for (unsigned number = 0; number < 3; number++) {
            const std::optional<octopus::Event> event = consumer.next(timeout);
            EXPECT(event && number_of(*event) == number);
            producer.push({*event->metadata()});
            event->acknowledge();
        }
        EXPECT(is_committed ? producer.commit_transaction(timeout)
                            : producer.abort_transaction(timeout));
    }
    EXPECT(consumer.committed(0) == 3 && number_of(*consumer.next(timeout)) == 3);
    const octopus::Consumer results = reader(output);
    EXPECT((read_numbers(results, 3) == std::vector<unsigned>{0, 1, 2}) && !results.next(a_moment));
    const octopus::Producer newer = output.producer(writing);
    producer.begin_transaction();
    producer.push({"4"});
    EXPECT(THROWN_BY(Error, (void)producer.commit_transaction()).status() == OCTOPUS_FENCED);
}

constexpr test_cases::TestCase all[] = {
    TEST_CASE(handles_are_move_only_and_released_in_any_order),
    TEST_CASE(driver_creates_finds_lists_and_deletes_topics),
    TEST_CASE(failures_throw_their_status_and_timeouts_do_not),
    TEST_CASE(push_many_and_pull_many_transfer_several_events),
    TEST_CASE(key_headers_and_timestamp_are_those_of_the_push),
    TEST_CASE(futures_are_shared_awaited_in_parallel_and_call_back),
    TEST_CASE(dropped_pull_takes_no_event),
    TEST_CASE(strict_order_holds_on_pool_with_host_preparations),
    TEST_CASE(process_stops_or_rethrows_from_any_thread),
    TEST_CASE(targets_are_read_and_positions_sought_and_committed),
    TEST_CASE(transaction_stores_events_and_positions_together),
};

} // namespace

int main(int argc, char **argv) { return run(argc, argv, all); }
