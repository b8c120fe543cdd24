/*
 * Follows the frames of detector.c, and looks at a part of them only: at the metadata, and at the
 * region in the middle. Prints statistics until it has seen all frames, or until Ctrl+C or SIGTERM.
 *
 *     c++ -std=c++17 -I include -o target/monitor plugin-tests/examples/monitor.cpp -ldl
 *     OCTOPUS_LIBRARY=target/release/liboctopus.so target/monitor localhost:9092 [TOPIC]
 */
#include "octopus.hpp"

#include <signal.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <exception>
#include <iostream>
#include <regex>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>

using std::chrono::seconds;

/// The width and the height of the region, in pixels.
constexpr std::size_t region = 64;

/// What the metadata says about a frame.
struct Frame {
    std::size_t number, total, height, width;

    /// Finds the values with a regular expression. A program that has a JSON library uses that.
    explicit Frame(std::string_view metadata)
    {
        static const std::regex pattern(
            R"("frame": (\d+), "frames": (\d+), .*"shape": \[(\d+), (\d+)\], "dtype": "<u2")");
        std::match_results<std::string_view::const_iterator> match;
        if (!std::regex_search(metadata.begin(), metadata.end(), match, pattern))
            throw std::runtime_error("this is not the metadata of a frame: " +
                                     std::string(metadata));
        number = std::stoul(match[1]), total = std::stoul(match[2]);
        height = std::stoul(match[3]), width = std::stoul(match[4]);
    }
};

/// The running statistics of the regions.
class Statistics {
public:
    /// Adds the region of a frame. `data` is a view of the bytes that came from the broker: nothing
    /// is copied but the rows of the region.
    void add(const Frame &frame, std::string_view data)
    {
        if (frame.height < region || frame.width < region ||
            data.size() != frame.height * frame.width * 2)
            throw std::runtime_error("frame " + std::to_string(frame.number) +
                                     " does not have the size of its shape");
        const std::size_t top = (frame.height - region) / 2, left = (frame.width - region) / 2;
        std::array<std::uint16_t, region> row;
        for (std::size_t y = top; y < top + region; y++) {
            // Not a cast of the pointer, since the view may have an odd address.
            std::memcpy(row.data(), data.data() + (y * frame.width + left) * 2, sizeof row);
            for (const std::uint16_t pixel : row) {
                sum_ += pixel;
                if (pixel > brightest_)
                    brightest_ = pixel, brightest_frame_ = frame.number;
            }
        }
        frames_++;
        bytes_ += data.size();
    }

    void print() const
    {
        const double pixels = static_cast<double>(frames_ * region * region);
        std::cout << frames_ << " frames: mean " << sum_ / pixels << ", brightest pixel "
                  << brightest_ << " in frame " << brightest_frame_ << "; looked at "
                  << frames_ * region * region * 2 / 1024 << " of " << bytes_ / 1024 << " KiB"
                  << std::endl;
    }

private:
    std::size_t frames_ = 0, bytes_ = 0, brightest_frame_ = 0;
    std::uint16_t brightest_ = 0;
    double sum_ = 0;
};

volatile sig_atomic_t is_stopped = 0; // set by Ctrl+C and SIGTERM

/// A signal handler must not call Octopus: it only sets the flag. The second Ctrl+C ends the
/// program at once.
void handle_signals()
{
    struct sigaction action = {};
    action.sa_handler = [](int) { is_stopped = 1; };
    action.sa_flags = SA_RESETHAND;
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
}

int main(int argc, char **argv)
try {
    if (argc < 2 || argc > 3) {
        std::cerr << "usage: " << argv[0] << " BOOTSTRAP-SERVERS [TOPIC]\n";
        return 1;
    }
    handle_signals();
    const std::string servers = argv[1];
    const octopus::Driver driver(octopus::Library::find(),
                                 R"({"kafka": {"bootstrap.servers": ")" + servers + R"("}})");
    // Each run has a name of its own and acknowledges nothing, so it reads from the first frame on,
    // and several monitors see all frames each.
    const std::string name = "monitor-" + std::to_string(std::time(nullptr)) + "-" +
                             std::to_string(getpid());
    const octopus::Consumer consumer =
        driver.open_topic(argc > 2 ? argv[2] : "detector-frames").consumer(name);

    Statistics statistics;
    std::set<std::size_t> seen; // a frame may arrive twice: events are delivered at least once
    std::size_t total = 1;
    int seconds_without_frame = 0;
    while (seen.size() < total && !is_stopped) {
        const auto event = consumer.next(seconds(1)); // not longer: a signal does not interrupt it
        if (!event) {
            if (++seconds_without_frame == 30)
                throw std::runtime_error("no frame arrived within 30 s: is the detector running?");
            continue;
        }
        seconds_without_frame = 0;
        const Frame frame(event->metadata().value_or(""));
        total = frame.total;
        if (seen.insert(frame.number).second) {
            statistics.add(frame, event->data());
            if (seen.size() % 50 == 0)
                statistics.print();
        }
    }
    if (!consumer.close(seconds(30)))
        throw std::runtime_error("closing took longer than 30 s");
    if (seen.size() < total)
        std::cout << "stopped after " << seen.size() << " frames\n";
    else
        std::cout << "all " << total << " frames seen\n";
    return 0;
} catch (const std::exception &error) {
    std::cerr << "monitor: " << error.what() << '\n';
    return 1;
}
