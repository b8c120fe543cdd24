/*
 * What programs in C++ share that show promises: each promise is a function, which throws when it is not kept. The last line
 * that such a program prints says how many are broken.
 */

#ifndef PROMISES_HPP
#define PROMISES_HPP

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>

namespace promises {

inline void expect(bool holds, const char *file, int line, const char *what)
{
    if (!holds)
        throw std::runtime_error(std::string(file) + ":" + std::to_string(line) + ": not so: " + what);
}
#define EXPECT(...) promises::expect(static_cast<bool>(__VA_ARGS__), __FILE__, __LINE__, #__VA_ARGS__)

/* Runs `attempt`, which should throw a T, and gives that. */
template <class T, class Attempt> T thrown_by(const char *file, int line, Attempt attempt)
{
    try {
        attempt();
    } catch (const T &thrown) {
        return thrown;
    }
    throw std::runtime_error(std::string(file) + ":" + std::to_string(line) + ": nothing was thrown");
}
#define THROWN_BY(type, ...) promises::thrown_by<type>(__FILE__, __LINE__, [&] { (void)(__VA_ARGS__); })

inline bool mentions(const std::exception &exception, std::string_view text)
{
    if (std::string_view(exception.what()).find(text) != std::string_view::npos)
        return true;
    std::fprintf(stderr, "not mentioned: %.*s, in: %s\n", static_cast<int>(text.size()), text.data(), exception.what());
    return false;
}

/* Wakes who waits for so many. */
class Countdown {
public:
    explicit Countdown(unsigned count) : left_(count) {}

    void hit()
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        left_--;
        changed_.notify_all();
    }

    bool is_over_within(std::chrono::milliseconds at_most)
    {
        std::unique_lock<std::mutex> lock(mutex_);
        return changed_.wait_for(lock, at_most, [this] { return left_ == 0; });
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    unsigned left_;
};

struct Promise {
    const char *name;
    void (*keep)();
};
#define PROMISE(function) promises::Promise{#function, function}

/* The result of a program that shows these. */
template <std::size_t count> int keep(const Promise (&all)[count])
{
    int broken = 0;
    for (const Promise &promise : all) {
        try {
            promise.keep();
            std::printf("kept: %s\n", promise.name);
        } catch (const std::exception &why) {
            std::printf("broken: %s: %s\n", promise.name, why.what());
            broken++;
        } catch (...) {
            std::printf("broken: %s: it threw what is no std::exception\n", promise.name);
            broken++;
        }
        std::fflush(stdout);
    }
    std::printf("%d of %zu promises are broken\n", broken, count);
    return broken == 0 ? 0 : 1;
}

} // namespace promises

#endif
