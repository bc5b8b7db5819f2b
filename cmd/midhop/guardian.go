//go:build linux || darwin

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// A panic outside of the screen's own goroutines, a fatal signal and kill -9 leave nobody in this process to give the
// terminal back. So a second process waits for the end of the first, and does it then: the terminal's modes as they were,
// the shell's screen instead of ours, and what the runtime said about the crash, which would have been lost with our screen.

// guardianCommand is the hidden command that runs the second process.
const guardianCommand = "terminal-guardian"

// guardianDone is what the screen says when it has given the terminal back itself.
const guardianDone = 0x06 // ACK

// leaveScreen undoes what a screen may have set: styles, the alternate screen, the hidden cursor, keypad and cursor keys'
// modes, mouse reports, and bracketed paste (xterm's control sequences).
const leaveScreen = "\x1b[0m\x1b[?1049l\x1b[?25h\x1b[?1l\x1b>\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l"

// guardTerminal starts the process that gives the terminal back if this one dies. The function returned is to be called
// once the screen has done so itself. Where the process cannot be started there is none, which is no reason not to show
// anything.
func guardTerminal() (done func()) {
	self, err := os.Executable()
	if err != nil || !term.IsTerminal(int(os.Stdin.Fd())) {
		return func() {}
	}
	r, w, err := os.Pipe()
	if err != nil {
		return func() {}
	}
	cmd := exec.Command(self, guardianCommand)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = r, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{os.Stdin}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // neither ctrl-c nor ctrl-z is meant for it
	modes, err := unix.IoctlGetTermios(int(os.Stdin.Fd()), getTermios)
	if err == nil {
		err = cmd.Start()
	}
	r.Close()
	if err == nil {
		_, err = w.Write(bytesOf(modes))
	}
	if err != nil {
		w.Close()
		return func() {}
	}
	_ = debug.SetCrashOutput(w, debug.CrashOptions{})
	dieBySignal()
	return func() {
		_ = debug.SetCrashOutput(nil, debug.CrashOptions{})
		_, _ = w.Write([]byte{guardianDone})
		w.Close()
		_ = cmd.Wait()
	}
}

// dieBySignal lets a crash end this process by a signal instead of an exit code. A shell takes the terminal's modes of a command
// that exits for its own, and may look before the second process has put them right; of one that was killed it does not. What
// is in memory is nobody's business, so no core is written.
func dieBySignal() {
	var core unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_CORE, &core) == nil {
		core.Cur = 0
		_ = unix.Setrlimit(unix.RLIMIT_CORE, &core)
	}
	debug.SetTraceback("crash")
}

// bytesOf is the memory of the terminal's modes: both processes are the same program.
func bytesOf(t *unix.Termios) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(t)), unsafe.Sizeof(*t))
}

// isGuardian runs the second process where this is it, and returns its exit code.
func isGuardian(args []string) (code int, is bool) {
	if len(args) != 1 || args[0] != guardianCommand {
		return 0, false
	}
	if err := terminalGuardian(os.Stdin, os.Stdout, os.NewFile(3, "terminal")); err != nil {
		fmt.Fprintf(os.Stderr, "midhop: %v\n", err)
		return 1, true
	}
	return 0, true
}

// terminalGuardian is the second process: in are the modes, then either guardianDone or what is known of a crash.
func terminalGuardian(in io.Reader, out io.Writer, tty *os.File) error {
	signal.Ignore(syscall.SIGTTOU, syscall.SIGTTIN, syscall.SIGHUP, syscall.SIGINT, syscall.SIGPIPE)
	var modes unix.Termios
	if _, err := io.ReadFull(in, bytesOf(&modes)); err != nil {
		return errors.New("this command is midhop's own, for its screens")
	}
	said, _ := io.ReadAll(io.LimitReader(in, 1<<20))
	if bytes.HasPrefix(said, []byte{guardianDone}) {
		return nil
	}
	err := unix.IoctlSetTermios(int(tty.Fd()), setTermios, &modes)
	_, werr := fmt.Fprint(out, leaveScreen)
	if len(said) > 0 {
		fmt.Fprintf(out, "midhop broke\r\n  effect: it has ended; the terminal is as before\r\n"+
			"  remedy: this is a bug in midhop, please report it with these lines\r\n%s", bytes.ReplaceAll(said, []byte("\n"), []byte("\r\n")))
	} else {
		fmt.Fprint(out, "midhop was killed; the terminal is as before\r\n")
	}
	return errors.Join(err, werr)
}
