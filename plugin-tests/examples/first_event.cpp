/*
 * The first event: creates a topic, pushes an event, and reads it back.
 *
 *     c++ -std=c++17 -I include -o target/first_event plugin-tests/examples/first_event.cpp -ldl
 *     OCTOPUS_LIBRARY=target/release/liboctopus.so target/first_event localhost:9092
 */
#include "octopus.hpp"

#include <chrono>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>

using std::chrono::seconds;

int main(int argc, char **argv)
try {
    if (argc != 2) {
        std::cerr << "usage: " << argv[0] << " BOOTSTRAP-SERVERS\n";
        return 1;
    }
    const std::string servers = argv[1];
    const octopus::Driver driver(octopus::Library::find(),
                                 R"({"kafka": {"bootstrap.servers": ")" + servers + R"("}})");
    try {
        // One replica, as a Kafka for a first try has one broker.
        driver.create_topic("first-event", {R"({"num_partitions": 1, "replication_factor": 1})"});
    } catch (const octopus::Error &error) {
        if (error.status() != OCTOPUS_TOPIC_EXISTS) // by an earlier run
            throw;
    }
    const octopus::Topic topic = driver.open_topic("first-event");

    // An event has metadata, which is JSON, and data, which is any bytes. `push` returns before the
    // event is stored, `wait` when it is.
    const octopus::Producer producer = topic.producer();
    const octopus::Push push = producer.push(
        {R"({"sensor": "roof", "celsius": 21.5})", "raw samples"});
    const auto stored = push.wait(seconds(60));
    if (!stored)
        throw std::runtime_error("the event was not stored within 60 s");
    if (stored->id == OCTOPUS_EVENT_ID_UNKNOWN) // the response that had it was lost
        std::cout << "stored at an unknown offset\n";
    else
        std::cout << "stored at offset " << stored->id << '\n';

    // The name of a consumer is its consumer group, which Kafka keeps the position of.
    const octopus::Consumer consumer = topic.consumer("first-event-reader");
    const auto event = consumer.next(seconds(60));
    if (!event)
        throw std::runtime_error("no event arrived within 60 s");
    std::cout << "read offset " << event->id() << ": " << event->metadata().value_or("no metadata")
              << " with " << event->data().size() << " bytes of data\n";
    event->acknowledge(); // the next run starts after it
    if (!consumer.close(seconds(60)) || !producer.close(seconds(60)))
        throw std::runtime_error("closing took longer than 60 s");
    return 0;
} catch (const std::exception &error) {
    std::cerr << "first_event: " << error.what() << '\n';
    return 1;
}
