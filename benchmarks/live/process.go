package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// usage is what a process has used: seconds of CPU, bytes of memory, threads.
type usage struct {
	cpu, rss, threads float64
}

// look reads the usage of a process from /proc; nothing for process 0.
func look(pid int) (found usage) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return found
	}
	text := string(content)
	fields := strings.Fields(text[strings.LastIndex(text, ")")+2:])
	var user, system, pages float64
	_, _ = fmt.Sscan(fields[11], &user)
	_, _ = fmt.Sscan(fields[12], &system)
	_, _ = fmt.Sscan(fields[17], &found.threads)
	_, _ = fmt.Sscan(fields[21], &pages)
	found.cpu = (user + system) / 100
	found.rss = pages * float64(os.Getpagesize())
	return found
}

func ownCPU() float64 {
	var used syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(used.Utime) + seconds(used.Stime)
}
