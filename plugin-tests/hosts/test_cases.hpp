/*
 * A minimal test framework for programs in C++. Each test case is a function that throws if it
 * fails. The last line that a program prints is the number of failed test cases.
 */

#ifndef TEST_CASES_HPP
#define TEST_CASES_HPP

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>

namespace test_cases {

inline void expect(bool holds, const char *file, int line, const char *what)
{
    if (!holds)
        throw std::runtime_error(std::string(file) + ":" + std::to_string(line) +
                                 ": failed: " + what);
}
#define EXPECT(...) \
    test_cases::expect(static_cast<bool>(__VA_ARGS__), __FILE__, __LINE__, #__VA_ARGS__)

/* Runs `attempt`, which should throw a T, and returns the exception. */
template <class T, class Attempt> T thrown_by(const char *file, int line, Attempt attempt)
{
    try {
        attempt();
    } catch (const T &thrown) {
        return thrown;
    }
    throw std::runtime_error(std::string(file) + ":" + std::to_string(line) +
                             ": nothing was thrown");
}
#define THROWN_BY(type, ...) \
    test_cases::thrown_by<type>(__FILE__, __LINE__, [&] { (void)(__VA_ARGS__); })

inline bool mentions(const std::exception &exception, std::string_view text)
{
    if (std::string_view(exception.what()).find(text) != std::string_view::npos)
        return true;
    std::fprintf(stderr, "not mentioned: %.*s, in: %s\n", static_cast<int>(text.size()),
                 text.data(), exception.what());
    return false;
}

/* Wakes the waiting thread after `count` hits. */
class Countdown {
public:
    explicit Countdown(unsigned count) : remaining_(count) {}

    void hit()
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        remaining_--;
        changed_.notify_all();
    }

    bool is_over_within(std::chrono::milliseconds at_most)
    {
        std::unique_lock<std::mutex> lock(mutex_);
        return changed_.wait_for(lock, at_most, [this] { return remaining_ == 0; });
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    unsigned remaining_;
};

struct TestCase {
    const char *name;
    void (*run)();
};
#define TEST_CASE(function) \
    test_cases::TestCase { #function, function }

/* Runs all test cases and returns the exit status of the program. */
template <std::size_t count> int run_all(const TestCase (&all)[count])
{
    int failed = 0;
    for (const TestCase &test_case : all) {
        try {
            test_case.run();
            std::printf("passed: %s\n", test_case.name);
        } catch (const std::exception &why) {
            std::printf("failed: %s: %s\n", test_case.name, why.what());
            failed++;
        } catch (...) {
            std::printf("failed: %s: threw an object that is not a std::exception\n",
                        test_case.name);
            failed++;
        }
        std::fflush(stdout);
    }
    std::printf("%d of %zu test cases failed\n", failed, count);
    return failed == 0 ? 0 : 1;
}

} // namespace test_cases

#endif
