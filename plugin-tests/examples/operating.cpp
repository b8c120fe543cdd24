/*
 * What an operator watches: log lines, statistics, rebalances, fatal errors, errors of pulls, the
 * lag of a consumer, and what a driver uses. docs/guide/operating.md explains it.
 *
 *     c++ -std=c++17 -I include -o target/operating plugin-tests/examples/operating.cpp -ldl -pthread
 *     OCTOPUS_LIBRARY=target/release/liboctopus.so target/operating localhost:9092
 */
#include "octopus.hpp"

#include <unistd.h>

#include <chrono>
#include <ctime>
#include <exception>
#include <iostream>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace {

using std::chrono::seconds;

constexpr int events = 1000;

/* Callbacks run on threads of the plugin, several at a time, so they only pass on what they get.
 * They must not throw, since that ends the program. They may be called until the driver's clients
 * have ended in the background, so they own what they use. */
octopus::Services services()
{
    octopus::Services services;
    services.log = [](std::int32_t level, std::string_view source, std::string_view message) {
        if (level <= OCTOPUS_LOG_WARNING)
            std::cerr << (level == OCTOPUS_LOG_ERROR ? "error " : "warning ") +
                             std::string(source) + ": " + std::string(message) + "\n";
    };
    services.fatal = [](std::string_view client, std::int32_t, std::string_view message) {
        std::cerr << "create a new " + std::string(client) + ": " + std::string(message) + "\n";
    };
    services.rebalance = [](std::string_view consumer, std::int32_t change,
                            const auto &partitions) {
        if (change == OCTOPUS_PARTITIONS_LOST)
            std::cerr << std::string(consumer) + " lost " + std::to_string(partitions.size()) +
                             " partitions\n";
    };
    return services;
}

/* Reads one event. Reports what reading skipped, and gives up only if somebody has to act. */
std::optional<octopus::Event> next(const octopus::Consumer &consumer)
{
    for (;;) {
        try {
            return consumer.next(seconds(10));
        } catch (const octopus::Error &error) {
            switch (error.status()) {
            case OCTOPUS_MALFORMED_RECORD: // one record is skipped
            case OCTOPUS_RECORDS_LOST:     // records expired before they were read
            case OCTOPUS_DAMAGED_DATA:     // records can't be decoded
                std::cerr << error.what() << '\n';
                if (const auto &skipped = error.skipped())
                    std::cerr << "skipped offsets " << skipped->first << " to " << skipped->last
                              << '\n';
                break;
            default:
                if (!error.is_retriable())
                    throw;
                std::cerr << error.what() << '\n';
            }
        }
    }
}

std::uint64_t lag(const octopus::Consumer &consumer)
{
    std::uint64_t sum = 0;
    for (const std::uint32_t partition : consumer.assignment())
        sum += consumer.lag(partition);
    return sum;
}

void watch(const octopus::Driver &driver, const std::string &name)
{
    driver.create_topic(name, {R"({"num_partitions": 2, "replication_factor": 1})"});
    const octopus::Topic topic = driver.open_topic(name);
    const octopus::Producer producer = topic.producer({"detector"});
    for (int number = 0; number < events; number++)
        producer.push({std::to_string(number)});
    if (!producer.flush().wait(seconds(30))) // throws if the delivery of an event failed
        throw std::runtime_error("the events were not delivered within 30 s");

    const octopus::Consumer consumer = topic.consumer(name);
    for (int number = 0; number < events; number++) {
        const auto event = next(consumer);
        if (!event)
            throw std::runtime_error("no event arrived within 10 s");
        event->acknowledge();
        if (number == 0)
            std::cout << "lag after the first event: " << lag(consumer) << '\n';
    }
    std::cout << "lag after the last event: " << lag(consumer) << '\n';

    const octopus_stats stats = driver.stats();
    std::cout << "delivered: " << stats.delivered << ", failed: " << stats.failed
              << ", in flight: " << stats.events_in_flight << '\n'
              << "99 % of the events were delivered within " << stats.latency_p99_ms << " ms\n"
              << "clients: " << stats.clients << ", threads: " << stats.threads
              << ", connections: " << stats.connections << '\n';
    if (!consumer.close(seconds(30)) || !producer.close(seconds(30)))
        throw std::runtime_error("closing took longer than 30 s");
}

} // namespace

int main(int argc, char **argv)
try {
    if (argc != 2) {
        std::cerr << "usage: " << argv[0] << " host:port\n";
        return 1;
    }
    const std::string config = R"({"kafka": {"client.id": "detector", "bootstrap.servers": ")" +
                               std::string(argv[1]) + R"("}})";
    const octopus::Driver driver(octopus::Library::find(), config, services());
    watch(driver,
          "operating-" + std::to_string(std::time(nullptr)) + "-" + std::to_string(getpid()));
    return 0;
} catch (const std::exception &error) {
    std::cerr << "operating: " << error.what() << '\n';
    return 1;
}
