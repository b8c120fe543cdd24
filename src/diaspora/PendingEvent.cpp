#include "PendingEvent.hpp"

namespace octopus::adapter {

namespace {

std::chrono::steady_clock::time_point after(int timeout_ms)
{
    using std::chrono::steady_clock;
    /* No timeout is a year, since a larger duration would overflow the clock's nanoseconds. */
    constexpr auto no_timeout = std::chrono::hours(24 * 365);
    return steady_clock::now() +
           (timeout_ms < 0 ? milliseconds(no_timeout) : milliseconds(timeout_ms));
}

} // namespace

std::optional<diaspora::Event> PendingEvent::wait(int timeout_ms)
{
    const auto deadline = after(timeout_ms);
    /* All threads that wait for the same pull get the same event. */
    auto event = with_api_exceptions([&] { return pull_.wait(milliseconds(timeout_ms)); });
    if (!event)
        return std::nullopt;
    std::unique_lock<std::mutex> lock(mutex_);
    if (state_ == State::unloaded) {
        state_ = State::loading;
        lock.unlock();
        load(std::move(*event));
        lock.lock();
    }
    if (!changed_.wait_until(lock, deadline, [&] { return state_ == State::loaded; }))
        return std::nullopt;
    if (failure_)
        std::rethrow_exception(failure_);
    return event_;
}

bool PendingEvent::is_ready() const
{
    return with_api_exceptions([&] { return pull_.is_done(); });
}

/* Called without the lock, since it calls functions of the user. */
void PendingEvent::load(octopus::Event event)
{
    diaspora::Event loaded;
    std::exception_ptr failure;
    try {
        loaded = loader_->load(std::move(event), data_);
    } catch (...) {
        failure = std::current_exception();
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    event_ = std::move(loaded);
    failure_ = failure;
    state_ = State::loaded;
    changed_.notify_all();
}

} // namespace octopus::adapter
