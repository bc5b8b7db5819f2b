package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
)

// binary is the real program, built once for the tests that need real processes.
var binary string

func TestMain(m *testing.M) {
	programs := map[string]func(){
		"midhop":   func() { os.Exit(run("midhop", os.Args[1:])) },
		pluginName: func() { os.Exit(run(pluginName, os.Args[1:])) },
	}
	if programs[filepath.Base(os.Args[0])] == nil && os.Getenv(partVariable) != "" {
		os.Exit(m.Run()) // whoever plays a part is killed in the end, and could not remove what it made
	}
	testscript.Main(wholeProgram{m}, programs)
}

// hang is how long a test waits for what is to come before it calls it missing: a time that only what never comes needs, and no
// machine that has too much to do.
const hang = 3 * time.Minute

// partVariable is set in processes that play a part in a test of another, and need no program.
const partVariable = "MIDHOP_TEST_PART"

// wholeProgram builds the program before the tests run, and removes it afterwards.
type wholeProgram struct{ m *testing.M }

func (w wholeProgram) Run() int {
	dir, err := os.MkdirTemp("", "midhop-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // other users run it too
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	binary = filepath.Join(dir, "midhop")
	if os.Geteuid() == 0 { // only root runs labs
		if err := buildProgram(binary); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	sideBySide()
	return w.m.Run()
}

// sideBySide lets more tests run at once than there are processors: the labs among them wait for the kernel's clocks, and
// the matrix of the labs runs as many.
func sideBySide() {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = flag.Set("test.parallel", "4") // a number
	}
}

// guestVariable names the kernel in a guest of the VM matrix.
const guestVariable = "MIDHOP_VM"

// buildProgram puts the program at a path. A guest has no Go: there the tests play it, as the one whose name they bear.
func buildProgram(path string) error {
	if os.Getenv(guestVariable) == "" {
		if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
			return fmt.Errorf("build: %w\n%s", err, out)
		}
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	data, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o755)
}

// TestScript holds the command line to its contract: one .txtar file per command or topic.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			dir, err := filepath.Abs("testdata/recordings")
			env.Setenv("RECORDINGS", dir)
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

// exits is the script command `exits CODE PROGRAM [ARG ...]`: it runs the program and holds it to its exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARG ...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// filesIn returns what writes files that nobody else may read into a directory, and gives their paths.
func filesIn(tb testing.TB, dir string) func(name, text string) (path string) {
	return func(name, text string) string {
		tb.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
		return path
	}
}

var updatePages = flag.Bool("update-pages", false, "write committed pages anew that tests make")

// isCommitted wants a committed page to be as the test has made it.
func isCommitted(t *testing.T, page, want string) {
	t.Helper()
	if *updatePages {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, string(have)); d != "" {
		t.Errorf("%s is not what the program makes of it; run make generate (-want +have)\n%s", page, d)
	}
}
