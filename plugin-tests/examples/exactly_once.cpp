/*
 * Forwards the events of one topic to another one in transactions.
 *
 *     c++ -std=c++17 -I include -o target/exactly_once plugin-tests/examples/exactly_once.cpp -ldl
 *     OCTOPUS_LIBRARY=target/release/liboctopus.so target/exactly_once localhost:9092
 */
#include "octopus.hpp"

#include <chrono>
#include <cstddef>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::size_t reading_count = 10;

/// Forwards the events that are available in one transaction.
///
/// @return Their number, which is 0 if the transaction was aborted.
static std::size_t forward(const octopus::Consumer &readings, const octopus::Producer &results)
{
    const auto events = readings.pull_many(100, milliseconds(500));
    results.begin_transaction({&readings});
    try {
        for (const octopus::Event &event : events) {
            results.push({event.metadata().value_or("{}")});
            event.acknowledge();
        }
        while (!results.commit_transaction()) // after the driver's timeout_ms: it continues
            ;
        return events.size();
    } catch (const octopus::Error &error) {
        if (error.status() != OCTOPUS_MUST_ABORT && error.status() != OCTOPUS_STALE)
            throw;
        while (!results.abort_transaction())
            ;
        return 0;
    }
}

static octopus::Topic open(const octopus::Driver &driver, const std::string &name)
{
    try {
        driver.create_topic(name, {R"({"num_partitions": 1, "replication_factor": 1})"});
    } catch (const octopus::Error &error) {
        if (error.status() != OCTOPUS_TOPIC_EXISTS) // by an earlier run
            throw;
    }
    return driver.open_topic(name);
}

int main(int argc, char **argv)
try {
    if (argc != 2) {
        std::cerr << "usage: " << argv[0] << " BOOTSTRAP-SERVERS\n";
        return 1;
    }
    const std::string servers = argv[1];
    const octopus::Driver driver(octopus::Library::find(),
                                 R"({"kafka": {"bootstrap.servers": ")" + servers + R"("}})");
    const octopus::Topic topic = open(driver, "exactly-once-cpp-readings");
    const octopus::Producer instrument = topic.producer();
    for (std::size_t number = 0; number < reading_count; number++)
        instrument.push({R"({"number": )" + std::to_string(number) + "}"});
    instrument.close();

    octopus::ProducerOptions producer_options;
    producer_options.options = R"({"transactional_id": "exactly-once-cpp"})";
    const octopus::Producer results =
        open(driver, "exactly-once-cpp-results").producer(producer_options);
    octopus::ConsumerOptions consumer_options;
    consumer_options.options = R"({"commits": "transaction"})";
    const octopus::Consumer readings = topic.consumer("exactly-once-cpp", consumer_options);
    std::size_t count = 0;
    while (count < reading_count)
        count += forward(readings, results);
    std::cout << count << " events forwarded\n";
    if (!results.close(seconds(60)) || !readings.close(seconds(60)))
        throw std::runtime_error("closing took longer than 60 s");
    return 0;
} catch (const std::exception &error) {
    std::cerr << "exactly_once: " << error.what() << '\n';
    return 1;
}
