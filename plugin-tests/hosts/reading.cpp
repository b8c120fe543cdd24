/*
 * A host in C++ that pulls and acknowledges events of a topic, even if the topic has damaged or
 * missing records. It prints each event and each error, and ends after EVENTS events.
 *
 *     ./reading localhost:9092 a-topic a-group 15
 */
#include "octopus.hpp"

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>

int main(int argc, char **argv)
try {
    if (argc != 5) {
        std::cerr << "usage: " << argv[0] << " BOOTSTRAP-SERVERS TOPIC GROUP EVENTS\n";
        return 1;
    }
    const octopus::Driver driver(octopus::Library(octopus_register),
                                 R"({"kafka": {"bootstrap.servers": ")" + std::string(argv[1]) +
                                     R"("}})");
    const octopus::Consumer consumer = driver.open_topic(argv[2]).consumer(argv[3]);
    for (int count = 0, wanted = std::atoi(argv[4]); count < wanted;) {
        try {
            if (const auto event = consumer.next(std::chrono::seconds(1))) {
                event->acknowledge();
                std::cout << "event " << event->id() << std::endl;
                count++;
            }
        } catch (const octopus::Error &error) {
            /* The loop continues, since the error may be transient or reported once. */
            if (const auto &skipped = error.skipped())
                std::cout << "skipped " << skipped->first << " to " << skipped->last
                          << " of partition " << skipped->partition << std::endl;
            else
                std::cout << "status " << error.status() << std::endl;
            std::cerr << error.what() << std::endl;
        }
    }
    return consumer.close(std::chrono::seconds(60)) ? 0 : 1;
} catch (const octopus::Error &error) {
    std::cerr << error.what() << '\n';
    return 1;
}
