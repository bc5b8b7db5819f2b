package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// TestProbeWithARealAgent runs in the pod's place what its spec says, with its standard streams attached: it tells nothing
// before it is listened to, then everything from its first word on, and ends with the connection.
func TestProbeWithARealAgent(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("an agent loads probes: needs root")
	}
	a := serveProbeAPI(t)
	ended := make(chan error, 1)
	a.agent = func(_ string, in io.Reader, out io.Writer) error {
		var argv []string
		a.mu.Lock()
		for _, name := range a.probes() {
			spec := a.pods["ws/"+name]["spec"].(object)
			for _, arg := range spec["containers"].([]any)[0].(object)["args"].([]any) {
				argv = append(argv, fmt.Sprint(arg))
			}
		}
		a.mu.Unlock()
		cmd := exec.Command(binary, argv...)
		cmd.Stdout, cmd.Stderr = out, os.Stderr
		stdin, err := cmd.StdinPipe() // not Stdin: Wait would wait for what comes in, too
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			ended <- err
			return err
		}
		go func() { _, _ = io.Copy(stdin, in); _ = stdin.Close() }()
		late := time.AfterFunc(hang, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		err = cmd.Wait()
		ended <- err
		return err
	}
	p := startProbe(a, "node-b", "--yes", "-o", "jsonl", "--complete")
	p.until(`"type":"stream.started"`, `"source":"agent/node-b"`, `"seq":`)
	p.until(`"type":"stream.synced"`, `"fact":"sockets"`, `"source":"agent/node-b"`)
	_ = p.cmd.Process.Signal(syscall.SIGINT)
	p.end(exitInterrupted)
	a.left()
	var exit *exec.ExitError
	if err := <-ended; errors.As(err, &exit) && exit.ExitCode() == -1 {
		t.Errorf("the agent outlives the connection: %v", err)
	} // else what it wrote last found nobody, as may be
}
