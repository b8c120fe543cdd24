/*
 * Large events, the program of docs/guide/large-events.md: the limits on the way of a large event,
 * what happens at each of them, and how a consumer reads a part of the data.
 *
 *     c++ -std=c++17 -I include -o target/large_events plugin-tests/examples/large_events.cpp -ldl
 *     OCTOPUS_LIBRARY=target/release/liboctopus.so target/large_events localhost:9092
 */
#include "octopus.hpp"

#include <unistd.h>

#include <chrono>
#include <ctime>
#include <exception>
#include <iostream>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>

using std::chrono::seconds;

constexpr std::size_t rows = 2048, bytes_per_row = 4096; // of an image, 8 MiB

void expect(bool holds, const std::string &what)
{
    if (!holds)
        throw std::runtime_error("this is not so: " + what);
}

/// Runs an operation that a limit must stop, and prints the error.
template <class Operation> void expect_too_large(const char *limit, Operation operation)
{
    try {
        operation();
    } catch (const octopus::Error &error) {
        if (error.status() != OCTOPUS_TOO_LARGE)
            throw;
        std::cout << limit << ":\n  " << error.what() << '\n';
        return;
    }
    throw std::runtime_error(std::string(limit) + " did not stop a larger event");
}

/// An image that can't be compressed, as a noisy detector makes it.
std::string make_image()
{
    std::mt19937_64 noise(1);
    std::string image(rows * bytes_per_row, '\0');
    for (char &byte : image)
        byte = static_cast<char>(noise());
    return image;
}

void push_beyond_the_limits(const octopus::Topic &topic, const std::string &image)
{
    const octopus::Producer cautious = topic.producer();
    std::cout << "by default an event has at most " << cautious.max_event_size() << " bytes\n";
    expect_too_large("the producer's limit", [&] { cautious.push({"{}", image}); });

    octopus::ProducerOptions options;
    options.options = R"({"kafka": {"message.max.bytes": 10000000}})";
    const octopus::Producer producer = topic.producer(options);
    expect_too_large("the topic's limit",
                     [&] { return producer.push({"{}", image}).wait(seconds(30)); });

    // The producer's limit is for the event, the topic's for the compressed batch.
    options.options = R"({"kafka": {"message.max.bytes": 10000000, "compression.type": "lz4"}})";
    const octopus::Producer compressing = topic.producer(options);
    const std::string blank(image.size(), '\0');
    expect(compressing.push({"{}", blank}).wait(seconds(30)).has_value(),
           "the blank image is stored in 30 s");
    std::cout << "a blank image of the same size is stored when it is compressed\n";
}

void push_image(const octopus::Topic &topic, const std::string &image)
{
    octopus::ProducerOptions options;
    options.options = R"({"kafka": {"message.max.bytes": 10000000}})";
    const octopus::Producer producer = topic.producer(options);

    // The segments are concatenated in the event: the program needs no buffer for both.
    octopus::NewEvent event;
    event.metadata = R"({"rows": 2048, "bytes_per_row": 4096})";
    event.segments = {"header: 16 bytes", image};
    expect(producer.push(event).wait(seconds(30)).has_value(), "the image is stored in 30 s");
    expect(producer.close(seconds(30)), "the producer is closed in 30 s");
}

void read_a_part(const octopus::Topic &topic, const std::string &name, const std::string &image)
{
    const octopus::Consumer consumer = topic.consumer(name);
    const auto event = consumer.next(seconds(30));
    expect(event.has_value(), "the image is read in 30 s");

    const std::string_view data = event->data(); // a view of the memory in which the event arrived
    const std::string_view row = data.substr(16 + 1000 * bytes_per_row, bytes_per_row);
    std::cout << "read an event with " << data.size() << " bytes of data, used " << row.size()
              << " of them\n";
    expect(row == image.substr(1000 * bytes_per_row, bytes_per_row),
           "these are the bytes of row 1000");
    event->acknowledge();
    expect(consumer.close(seconds(30)), "the consumer is closed in 30 s");
}

/// A consumer whose limit is lower than the event reports it, and does not skip the event.
void read_with_limit(const octopus::Topic &topic, const std::string &name, const char *limit)
{
    octopus::ConsumerOptions options;
    options.options = limit;
    const octopus::Consumer consumer = topic.consumer(name + "-limited", options);
    expect_too_large("a consumer's limit", [&] { return consumer.next(seconds(30)); });
    expect(consumer.close(seconds(30)), "the consumer is closed in 30 s");
}

octopus::Topic create_topic(const octopus::Driver &driver, const std::string &name,
                            const char *options)
{
    driver.create_topic(name, {options});
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
    const std::string name = "images-" + std::to_string(std::time(nullptr)) + "-" +
                             std::to_string(getpid());
    const std::string image = make_image();
    const octopus::Topic small = create_topic(driver, name + "-small",
                                              R"({"replication_factor": 1})");
    push_beyond_the_limits(small, image);
    const octopus::Topic large = create_topic(
        driver, name, R"({"replication_factor": 1, "config": {"max.message.bytes": 10001000}})");
    push_image(large, image);
    read_a_part(large, name, image);
    read_with_limit(
        large, name,
        R"({"kafka": {"fetch.max.bytes": 1000000, "receive.message.max.bytes": 1000512}})");
    read_with_limit(small, name, R"({"kafka": {"fetch.decompressed.max.bytes": 1000000}})");
    return 0;
} catch (const std::exception &error) {
    std::cerr << "large_events: " << error.what() << '\n';
    return 1;
}
