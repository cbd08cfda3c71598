/*
 * Stands in for hwclock(8), which the guest agent runs each time that it has set the clock, as after a
 * fork. The machine's own clock is the host's (-rtc base=utc), and needs no setting; the real program
 * reads the time zone, looks for the device, and waits for a second to begin.
 */
int main(void)
{
	return 0;
}
