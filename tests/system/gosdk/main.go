// SPDX-License-Identifier: Apache-2.0

// Starts, queries and stops one microVM through Firecracker's own Go SDK, unmodified, with the monitor that it is
// given as the binary. What the SDK saw is printed as one JSON object; any error of the SDK ends it with status 1.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	firecracker "github.com/firecracker-microvm/firecracker-go-sdk"
	models "github.com/firecracker-microvm/firecracker-go-sdk/client/models"
)

type settings struct {
	binary, kernel, initrd, args, folder, ready, stop string
}

// report is what the test looks at.
type report struct {
	ID         string `json:"id"`
	AppName    string `json:"app_name"`
	State      string `json:"state"`
	Version    string `json:"version"`
	Paused     string `json:"paused"`
	Resumed    string `json:"resumed"`
	Restored   string `json:"restored"`
	PID        int    `json:"pid"`
	WaitError  string `json:"wait_error"`
	SocketGone bool   `json:"socket_gone"`
}

// console keeps what the guest prints and tells when the wanted words have come.
type console struct {
	lock   sync.Mutex
	text   bytes.Buffer
	wanted []byte
	seen   chan struct{}
	once   sync.Once
}

func (c *console) Write(piece []byte) (int, error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.text.Write(piece)
	if bytes.Contains(c.text.Bytes(), c.wanted) {
		c.once.Do(func() { close(c.seen) })
	}
	return len(piece), nil
}

func parseSettings() settings {
	var s settings
	flag.StringVar(&s.binary, "binary", "", "monitor")
	flag.StringVar(&s.kernel, "kernel", "", "guest kernel")
	flag.StringVar(&s.initrd, "initrd", "", "initial RAM disk, may be empty")
	flag.StringVar(&s.args, "args", "", "kernel command line")
	flag.StringVar(&s.folder, "folder", "", "folder for socket and log")
	flag.StringVar(&s.ready, "ready", "", "what the guest prints when it is up")
	flag.StringVar(&s.stop, "stop", "", "shutdown (Ctrl-Alt-Del) or stopvmm (SIGTERM)")
	flag.Parse()
	return s
}

func newMachine(ctx context.Context, s settings, out *console) (*firecracker.Machine, string, error) {
	socket := filepath.Join(s.folder, "api.socket")
	config := firecracker.Config{
		SocketPath:      socket,
		LogPath:         filepath.Join(s.folder, "log"),
		LogLevel:        "Info",
		MetricsPath:     filepath.Join(s.folder, "metrics"),
		KernelImagePath: s.kernel,
		InitrdPath:      s.initrd,
		KernelArgs:      s.args,
		VMID:            "gosdk-check",
		MachineCfg: models.MachineConfiguration{
			VcpuCount:  firecracker.Int64(1),
			MemSizeMib: firecracker.Int64(128),
		},
	}
	for _, name := range []string{config.LogPath, config.MetricsPath} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			return nil, "", err
		}
	}
	command := firecracker.VMCommandBuilder{}.WithBin(s.binary).WithSocketPath(socket).
		WithStdout(out).WithStderr(os.Stderr).Build(ctx)
	command.Args = append(command.Args, "--id", config.VMID)
	machine, err := firecracker.NewMachine(ctx, config, firecracker.WithProcessRunner(command))
	return machine, socket, err
}

func query(ctx context.Context, machine *firecracker.Machine, r *report) error {
	info, err := machine.DescribeInstanceInfo(ctx)
	if err != nil {
		return fmt.Errorf("DescribeInstanceInfo: %w", err)
	}
	r.ID, r.AppName, r.State = *info.ID, *info.AppName, *info.State
	if r.Version, err = machine.GetFirecrackerVersion(ctx); err != nil {
		return fmt.Errorf("GetFirecrackerVersion: %w", err)
	}
	if r.PID, err = machine.PID(); err != nil {
		return fmt.Errorf("PID: %w", err)
	}
	if err = machine.PauseVM(ctx); err != nil {
		return fmt.Errorf("PauseVM: %w", err)
	}
	if info, err = machine.DescribeInstanceInfo(ctx); err != nil {
		return fmt.Errorf("DescribeInstanceInfo, paused: %w", err)
	}
	r.Paused = *info.State
	if err = machine.ResumeVM(ctx); err != nil {
		return fmt.Errorf("ResumeVM: %w", err)
	}
	if info, err = machine.DescribeInstanceInfo(ctx); err != nil {
		return fmt.Errorf("DescribeInstanceInfo, resumed: %w", err)
	}
	r.Resumed = *info.State
	return nil
}

// clone saves the machine, which goes on afterwards, and has a second monitor become what was saved.
func clone(ctx context.Context, s settings, machine *firecracker.Machine, r *report) error {
	memory, state := filepath.Join(s.folder, "memory"), filepath.Join(s.folder, "state")
	if err := machine.PauseVM(ctx); err != nil {
		return fmt.Errorf("PauseVM: %w", err)
	}
	if err := machine.CreateSnapshot(ctx, memory, state); err != nil {
		return fmt.Errorf("CreateSnapshot: %w", err)
	}
	if err := machine.ResumeVM(ctx); err != nil {
		return fmt.Errorf("ResumeVM: %w", err)
	}
	socket := filepath.Join(s.folder, "clone.socket")
	command := firecracker.VMCommandBuilder{}.WithBin(s.binary).WithSocketPath(socket).WithStderr(os.Stderr).Build(ctx)
	config := firecracker.Config{SocketPath: socket, DisableValidation: true}
	second, err := firecracker.NewMachine(ctx, config, firecracker.WithProcessRunner(command),
		firecracker.WithSnapshot(memory, state, func(c *firecracker.SnapshotConfig) { c.ResumeVM = true }))
	if err != nil {
		return fmt.Errorf("NewMachine WithSnapshot: %w", err)
	}
	if err := second.Start(ctx); err != nil {
		return fmt.Errorf("Start from a snapshot: %w", err)
	}
	info, err := second.DescribeInstanceInfo(ctx)
	if err != nil {
		return fmt.Errorf("DescribeInstanceInfo, restored: %w", err)
	}
	r.Restored = *info.State
	if err := second.StopVMM(); err != nil {
		return fmt.Errorf("StopVMM of the clone: %w", err)
	}
	if err := second.Wait(ctx); err != nil && ctx.Err() != nil {
		return fmt.Errorf("Wait for the clone: %w", err)
	}
	return nil
}

// stop ends the machine in the way asked for and waits for the process, which is what engines do.
func stop(ctx context.Context, machine *firecracker.Machine, how string, r *report) error {
	switch how {
	case "shutdown":
		if err := machine.Shutdown(ctx); err != nil {
			return fmt.Errorf("Shutdown: %w", err)
		}
	case "stopvmm":
		if err := machine.StopVMM(); err != nil {
			return fmt.Errorf("StopVMM: %w", err)
		}
	default:
		return fmt.Errorf("-stop: %q is neither shutdown nor stopvmm", how)
	}
	if err := machine.Wait(ctx); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("Wait after %s: %w", how, err)
		}
		r.WaitError = err.Error()
	}
	return nil
}

func run(s settings) (*report, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	out := &console{wanted: []byte(s.ready), seen: make(chan struct{})}
	machine, socket, err := newMachine(ctx, s, out)
	if err != nil {
		return nil, fmt.Errorf("NewMachine: %w", err)
	}
	if err := machine.Start(ctx); err != nil {
		return nil, fmt.Errorf("Start: %w", err)
	}
	select {
	case <-out.seen:
	case <-ctx.Done():
		return nil, fmt.Errorf("the guest never printed %q; it printed: %s", s.ready, out.text.String())
	}
	r := &report{}
	if err := query(ctx, machine, r); err != nil {
		return nil, err
	}
	if err := clone(ctx, s, machine, r); err != nil {
		return nil, err
	}
	if err := stop(ctx, machine, s.stop, r); err != nil {
		return nil, err
	}
	_, err = os.Stat(socket)
	r.SocketGone = os.IsNotExist(err)
	return r, nil
}

func main() {
	r, err := run(parseSettings())
	if err != nil {
		fmt.Fprintln(os.Stderr, "gosdk:", err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		fmt.Fprintln(os.Stderr, "gosdk:", err)
		os.Exit(1)
	}
}
