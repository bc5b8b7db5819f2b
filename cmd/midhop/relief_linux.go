package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/tracer/relief"
)

// reliefChild is the hidden command that enters one network namespace.
const reliefChild = "relief-namespace"

func addReliefChild(root *cobra.Command) {
	root.AddCommand(&cobra.Command{
		Use:    reliefChild,
		Hidden: true,
		Args:   noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return relief.ChildMain(cmd.Context(), os.Stdin, os.Stdout)
		},
	})
}

// reliefRights says what is missing before anything is looked at.
func reliefRights() error {
	if os.Geteuid() == 0 {
		return nil
	}
	return blindError{
		cause:  errors.New("closing other processes' sockets needs root"),
		effect: "nothing is closed",
		remedy: "run it with sudo",
	}
}

// carryOut closes what the plans name, one namespace after another.
func carryOut(ctx context.Context, o reliefOptions, s *sight, plans []relief.Plan, people io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the path of this program: %w", err)
	}
	count := make(map[relief.Outcome]int)
	var failed []error
	tell, end := tellClosed(o, "relief/"+s.snap.Node)
	for i := range plans {
		for j := range plans[i].Spaces {
			sp := &plans[i].Spaces[j]
			views := make(map[uint64]*model.SocketView, len(sp.Views))
			for k := range sp.Views {
				views[sp.Views[k].Socket.Cookie] = &sp.Views[k]
			}
			err := relief.Close(ctx, []string{self, reliefChild}, sp, o.rate, func(r relief.Result) {
				count[r.Outcome]++
				switch {
				case r.Err != "":
					failed = append(failed, fmt.Errorf("%s: %s", views[r.Cookie].Socket.Peer, r.Err))
				case r.Outcome == relief.Closed:
					if err := tell(views[r.Cookie], r.Time); err != nil {
						failed = append(failed, err)
					}
				}
			})
			if err != nil {
				failed = append(failed, err)
			}
		}
	}
	if err := end(); err != nil {
		failed = append(failed, err)
	}
	parts := []string{fmt.Sprintf("closed %s", plural(count[relief.Closed], "socket"))}
	if n := count[relief.Progress]; n > 0 {
		parts = append(parts, fmt.Sprintf("left %d that made progress since", n))
	}
	if n := count[relief.Gone]; n > 0 {
		parts = append(parts, fmt.Sprintf("%d had ended already", n))
	}
	fmt.Fprintln(people, strings.Join(parts, ", "))
	err = firstOf(failed)
	if err != nil && strings.Contains(err.Error(), relief.ErrNoDestroy.Error()) {
		return blindError{cause: err, effect: "dead sockets wait for their own clocks", remedy: "restart the applications that hold them, or set TCP_USER_TIMEOUT"}
	}
	return err
}

// firstOf returns the first error and how many more there were.
func firstOf(errs []error) error {
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	return fmt.Errorf("%w, and %d more failures", errs[0], len(errs)-1)
}
