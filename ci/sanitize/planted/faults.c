/* Deliberate faults in C. Their variables are volatile, so that the optimizer keeps the faults. */
#include <limits.h>
#include <stdlib.h>

static int shared;

void c_heap_overflow(void)
{
    volatile char *bytes = malloc(16);
    volatile int index = 16;
    bytes[index] = 1;
    free((void *)bytes);
}

void c_signed_overflow(void)
{
    volatile int number = INT_MAX;
    number = number + 1;
}

void c_race(void)
{
    volatile int *counter = &shared;
    for (int count = 0; count < 1000; count++)
        *counter = *counter + 1;
}
