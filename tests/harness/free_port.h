// SPDX-License-Identifier: Apache-2.0
// A port for a server of a test.
#pragma once

// Nobody listens on it now. It is below the ports that Linux gives to outgoing connections, so
// none of those takes it before the server does, and random, so that tests side by side do not
// meet.
int free_port(void);
