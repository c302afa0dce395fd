// SPDX-License-Identifier: Apache-2.0
//
// json_speed_rival.cpp - json_speed.c for simdjson's DOM, from Debian's libsimdjson-dev.
//
//     json_speed_rival ROUNDS FILE
//
// The bodies are padded before the clock starts, which a server would have to do itself.
#include <simdjson.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <string>
#include <vector>

static double seconds()
{
    timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return double(now.tv_sec) + double(now.tv_nsec) / 1e9;
}

int main(int argc, char **argv)
{
    std::vector<simdjson::padded_string> bodies;
    simdjson::dom::parser parser;
    double best = 0;

    if (argc != 3)
        return 2;
    std::ifstream file(argv[2]);
    for (std::string line; std::getline(file, line);)
        bodies.emplace_back(line);
    for (int i = 0; i < atoi(argv[1]); i++) {
        const double before = seconds();
        size_t bytes = 0;

        while (bytes < (16u << 20)) {
            for (const auto &body : bodies) {
                if (parser.parse(body).error())
                    return 1;
                bytes += body.size() + 1;
            }
        }
        best = std::max(best, double(bytes) / (seconds() - before));
    }
    std::printf("%.0f\n", best);
}
