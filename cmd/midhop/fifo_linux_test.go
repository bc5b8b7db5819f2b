package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestCtrlCAtAPipe: Ctrl-C and TERM end what waits to open a pipe that nobody writes to, and what waits for the first byte of one.
func TestCtrlCAtAPipe(t *testing.T) {
	if os.Geteuid() != 0 { // see TestMain
		t.Skip("needs the built program")
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	recording := "testdata/recordings/healthy.jsonl.zst"
	for _, c := range []struct {
		name string
		args []string
		held bool // somebody has the pipe open and writes nothing
	}{
		{"opening a recording", []string{"replay", pipe}, false},
		{"reading a recording", []string{"replay", pipe}, true},
		{"opening a nodes file", []string{"replay", recording, "--nodes", pipe}, false},
		{"reading a nodes file", []string{"replay", recording, "--nodes", pipe}, true},
		{"a gate", []string{"check", "--file", pipe}, false},
		{"a look to compare with", []string{"via", "--file", recording, "--compare", pipe}, false},
	} {
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
			t.Run(c.name+", "+sig.String(), func(t *testing.T) {
				if c.held {
					fd, err := unix.Open(pipe, unix.O_RDWR|unix.O_CLOEXEC, 0)
					if err != nil {
						t.Fatal(err)
					}
					defer unix.Close(fd)
				}
				var said bytes.Buffer
				cmd := exec.Command(binary, c.args...)
				cmd.Stderr = &said
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() { ended <- cmd.Wait() }()
				untilWaiting(t, cmd.Process.Pid, pipe)
				if err := cmd.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
				select {
				case err := <-ended:
					var exit *exec.ExitError
					if !errors.As(err, &exit) || exit.ExitCode() != exitInterrupted {
						t.Errorf("ended with %v, want exit code %d\n%s", err, exitInterrupted, &said)
					}
				case <-time.After(hang):
					_ = cmd.Process.Kill()
					<-ended
					t.Errorf("does not end\n%s", &said)
				}
			})
		}
	}
}

// untilWaiting returns when a process is in the open of a pipe, or has it open: it listens for signals before it does either.
func untilWaiting(t *testing.T, pid int, pipe string) {
	t.Helper()
	process := filepath.Join("/proc", strconv.Itoa(pid))
	for deadline := time.Now().Add(hang); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		threads, _ := filepath.Glob(filepath.Join(process, "task", "*", "wchan"))
		for _, file := range threads {
			if at, err := os.ReadFile(file); err == nil && strings.Contains(string(at), "wait_for_partner") {
				return
			}
		}
		files, _ := filepath.Glob(filepath.Join(process, "fd", "*"))
		for _, file := range files {
			if to, err := os.Readlink(file); err == nil && to == pipe {
				return
			}
		}
	}
	t.Fatal("it never came to the pipe")
}
