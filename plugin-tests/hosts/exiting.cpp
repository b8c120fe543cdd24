/*
 * As exiting.c, but it uses the C++ headers and links the library: a program that pushes events and
 * ends.
 *
 *     exiting WAY EVENTS CONFIG TOPIC COUNTER
 */
#include <octopus.hpp>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <optional>
#include <string>

namespace {

/* Destroyed after main has returned. */
std::optional<octopus::Producer> kept;

void count(const char *file, std::uint64_t accepted)
{
    std::ofstream out(file, std::ios::binary);
    out.write(reinterpret_cast<const char *>(&accepted), sizeof accepted);
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 6)
        return std::fprintf(stderr, "usage: %s WAY EVENTS CONFIG TOPIC COUNTER\n", argv[0]), 1;
    const std::uint64_t events = std::stoull(argv[2]);
    const octopus::Driver driver(octopus::Library(octopus_register), argv[3]);
    const octopus::Topic topic = driver.open_topic(argv[4]);
    octopus::Producer producer = topic.producer();
    for (std::uint64_t index = 0; index < events; index++)
        producer.push(octopus::NewEvent{});
    count(argv[5], events);
    if (argv[1] == std::string("static"))
        kept.emplace(std::move(producer));
    return 0;
}
