package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// The lab and the first process of a host speak over a pair of SOCK_SEQPACKET sockets: one JSON message a packet, with
// open files beside it. Whichever end dies, the other reads an end of file.

// maxMessage bounds a message; the largest carry a command line and an environment.
const maxMessage = 128 << 10

// maxFiles bounds the files beside a message.
const maxFiles = 4

// request is what the lab asks of a host.
type request struct {
	Setup *setup `json:"setup,omitempty"`
	Spawn *spawn `json:"spawn,omitempty"`
}

// setup makes the process's namespaces into a host of its own.
type setup struct {
	Hostname string `json:"hostname"`
	BootID   string `json:"boot_id"`
}

// spawn starts a process on the host. Beside it travel its standard output, its standard error and, for a worker, its
// control socket.
type spawn struct {
	Argv   []string `json:"argv"`
	Env    []string `json:"env,omitempty"`     // nil: the host's own
	NewNet bool     `json:"new_net,omitempty"` // a network namespace and a host name of its own
	Caps   []int    `json:"caps,omitempty"`    // nil: all; else the only ones it may ever have
}

// answer is what a host replies. A spawn's answer carries a pidfd and, with NewNet, the new network namespace.
type answer struct {
	Err string `json:"err,omitempty"`
	PID int    `json:"pid,omitempty"` // as the host counts
	// Exited is sent unasked: the process PID has ended, and how.
	Exited string `json:"exited,omitempty"`
}

// line is one end of the socket pair.
type line struct{ *net.UnixConn }

// linePair returns the lab's end and a file to hand to the host.
func linePair() (line, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return line{}, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "control")
	l, err := fileLine(os.NewFile(uintptr(fds[0]), "control"))
	if err != nil {
		theirs.Close()
		return line{}, nil, err
	}
	return l, theirs, nil
}

// fileLine turns an inherited descriptor into a line and closes the file.
func fileLine(f *os.File) (line, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return line{}, fmt.Errorf("control socket: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return line{}, fmt.Errorf("control socket is a %T", c)
	}
	return line{u}, nil
}

func (l line) send(m any, files ...*os.File) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(b) > maxMessage {
		return fmt.Errorf("control message of %d bytes is too long", len(b))
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	_, _, err = l.WriteMsgUnix(b, rights, nil)
	return err
}

// receive reads one message into m and returns the files beside it, which are the caller's to close. The end of the
// other side is io.EOF.
func (l line) receive(m any) ([]*os.File, error) {
	b, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*maxFiles))
	n, on, flags, _, err := l.ReadMsgUnix(b, oob)
	switch {
	case err != nil:
		return nil, err
	case n == 0:
		return nil, io.EOF
	}
	files, err := openFiles(oob[:on])
	if err == nil && flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = errors.New("control message was cut off")
	}
	if err == nil {
		err = json.Unmarshal(b[:n], m)
	}
	if err != nil {
		closeAll(files)
		return nil, err
	}
	return files, nil
}

func openFiles(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			continue // not descriptors
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

// answerWait bounds how long a host may take to answer: it tells one that hangs from a machine that has too much to do, on which
// making a network namespace alone has taken most of a minute.
const answerWait = 2 * time.Minute
