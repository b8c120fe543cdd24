/*
 * What an operator watches: log lines, statistics, rebalances, fatal errors, errors of pulls, the
 * lag of a consumer, and what a driver uses. docs/guide/operating.md explains it.
 *
 *     c++ -std=c++17 -I include -o target/operating plugin-tests/examples/operating.cpp -ldl -pthread
 *     OCTOPUS_LIBRARY=target/release/liboctopus.so target/operating localhost:9092
 */
#include "octopus.hpp"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <iostream>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>

namespace {

using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr int events = 1000;

/* The number behind `"key":` in JSON, if the key is there. A real program uses a JSON library. */
std::optional<long> number_in(std::string_view json, const std::string &key)
{
    const auto at = json.find("\"" + key + "\":");
    if (at == std::string_view::npos)
        return std::nullopt;
    return std::strtol(json.data() + at + key.size() + 3, nullptr, 10);
}

/* Callbacks run on threads of the plugin, several at a time, so they only pass on what they get.
 * They must not throw, since that ends the program. They may be called until the driver's clients
 * have ended in the background, so they own what they use. */
octopus::Services services(std::shared_ptr<std::atomic<long>> unsent)
{
    octopus::Services services;
    services.log = [](std::int32_t level, std::string_view source, std::string_view message) {
        if (level <= OCTOPUS_LOG_WARNING)
            std::cerr << (level == OCTOPUS_LOG_ERROR ? "error " : "warning ") +
                             std::string(source) + ": " + std::string(message) + "\n";
    };
    services.statistics = [unsent](std::string_view client, std::string_view json) {
        const auto records = number_in(json, "msg_cnt"); // that this client holds
        if (records && client.rfind("producer", 0) == 0)
            *unsent = *records;
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

void watch(const octopus::Driver &driver, const std::string &name, const std::atomic<long> &unsent)
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

    const std::string description = driver.describe();
    for (const char *resource : {"clients", "threads", "connections"})
        std::cout << resource << ": " << number_in(description, resource).value() << '\n';
    for (const auto end = steady_clock::now() + seconds(30);
         unsent < 0 && steady_clock::now() < end;)
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    if (unsent < 0)
        throw std::runtime_error("no statistics arrived within 30 s");
    std::cout << "records that the producers' client holds: " << unsent << '\n';
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
    const auto unsent = std::make_shared<std::atomic<long>>(-1);
    const std::string config = R"({"kafka": {"bootstrap.servers": ")" + std::string(argv[1]) +
                               R"(", "client.id": "detector", "statistics.interval.ms": 1000}})";
    const octopus::Driver driver(octopus::Library::find(), config, services(unsent));
    watch(driver,
          "operating-" + std::to_string(std::time(nullptr)) + "-" + std::to_string(getpid()),
          *unsent);
    return 0;
} catch (const std::exception &error) {
    std::cerr << "operating: " << error.what() << '\n';
    return 1;
}
