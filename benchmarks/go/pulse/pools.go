package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"goa.design/pulse/pool"

	"pulsewire/benchmarks/go/contract"
)

const (
	preloadCallers = 100
	poolWarmUp     = 100         // dispatches that are not counted
	patience       = time.Second // a dispatch without an answer for so long has stalled: Pulse has lost the answer
)

// quiet is a handler whose jobs do nothing.
type quiet struct{}

func (quiet) Start(*pool.Job) error { return nil }
func (quiet) Stop(string) error     { return nil }

// clerk notes when each job was started last, and when so many are here.
type clerk struct {
	lock      sync.Mutex
	jobs      int
	startedMs map[string]float64
	complete  chan struct{}
}

func (c *clerk) Start(job *pool.Job) error {
	c.lock.Lock()
	defer c.lock.Unlock()
	_, known := c.startedMs[job.Key]
	c.startedMs[job.Key] = float64(contract.Monotonic()) / 1e6
	if !known && len(c.startedMs) == c.jobs {
		close(c.complete)
	}
	return nil
}

func (c *clerk) Stop(string) error { return nil }

func (c *clerk) samples() []float64 {
	c.lock.Lock()
	defer c.lock.Unlock()
	found := make([]float64, 0, len(c.startedMs))
	for _, at := range c.startedMs {
		found = append(found, at)
	}
	return found
}

func joinPool(ctx context.Context, client *redis.Client, s settings, handler pool.JobHandler) error {
	ttl := time.Duration(s.TTL * float64(time.Second))
	node, err := pool.AddNode(ctx, s.Stream, client, pool.WithWorkerTTL(ttl))
	if err != nil {
		return err
	}
	for range s.Workers {
		if _, err := node.AddWorker(ctx, handler); err != nil {
			return err
		}
	}
	return nil
}

// runPoolNode runs jobs until the second signal. The process then ends without leaving the pool.
func runPoolNode(ctx context.Context, client *redis.Client, s settings) (outcome, error) {
	if err := joinPool(ctx, client, s, quiet{}); err != nil {
		return outcome{}, err
	}
	if err := contract.WaitForGo(); err != nil {
		return outcome{}, err
	}
	return contract.Measure(func() (int, error) { return 1, contract.WaitForSignal() })
}

// runPoolSurvivor runs jobs until all of the pool are here, and says when each came.
func runPoolSurvivor(ctx context.Context, client *redis.Client, s settings) (outcome, error) {
	handler := &clerk{jobs: s.Jobs + poolWarmUp, startedMs: map[string]float64{}, complete: make(chan struct{})}
	if err := joinPool(ctx, client, s, handler); err != nil {
		return outcome{}, err
	}
	if err := contract.WaitForGo(); err != nil {
		return outcome{}, err
	}
	result, err := contract.Measure(func() (int, error) {
		<-handler.complete
		return 1, nil
	})
	result.SamplesMs = handler.samples()
	return result, err
}

// runPoolDispatch dispatches from so many goroutines, each waiting for the start of its job before the next.
func runPoolDispatch(ctx context.Context, client *redis.Client, s settings) (outcome, error) {
	node, err := pool.AddNode(ctx, s.Stream, client, pool.WithClientOnly())
	if err != nil {
		return outcome{}, err
	}
	if _, err := dispatchAll(ctx, node, "preload", s.Jobs, preloadCallers, s.Payload); err != nil {
		return outcome{}, err
	}
	if _, err := dispatchAll(ctx, node, "warm-up", poolWarmUp, s.Callers, s.Payload); err != nil {
		return outcome{}, err
	}
	if err := contract.WaitForGo(); err != nil {
		return outcome{}, err
	}
	cpu := contract.CPUSeconds()
	result, err := dispatchAll(ctx, node, "job", s.Events, s.Callers, s.Payload)
	result.CPUSeconds = contract.CPUSeconds() - cpu
	return result, err
}

// dispatchAll dispatches so many keys. A dispatch that stalls is counted apart, and the time that its caller waited is
// taken out of the seconds.
func dispatchAll(ctx context.Context, node *pool.Node, name string, count, goroutines, size int) (outcome, error) {
	keys, body := make(chan string, count), make([]byte, size)
	for index := range count {
		keys <- fmt.Sprintf("%s-%d", name, index)
	}
	close(keys)
	var lock sync.Mutex
	var callers sync.WaitGroup
	var samples []float64
	var lost time.Duration
	var failure error
	stalled := 0
	begin := time.Now()
	for range goroutines {
		callers.Add(1)
		go func() {
			defer callers.Done()
			for key := range keys {
				asked := time.Now()
				patient, cancel := context.WithTimeout(ctx, patience)
				err := node.DispatchJob(patient, key, body)
				cancel()
				took := time.Since(asked)
				lock.Lock()
				switch {
				case err == nil:
					samples = append(samples, float64(took.Nanoseconds())/1e6)
				case errors.Is(err, context.DeadlineExceeded):
					stalled++
					lost += took
				default:
					failure = err
				}
				lock.Unlock()
			}
		}()
	}
	callers.Wait()
	result := outcome{Operations: len(samples), SamplesMs: samples, Figures: map[string]float64{"stalled": float64(stalled)}}
	result.Seconds = time.Since(begin).Seconds() - lost.Seconds()/float64(goroutines)
	return result, failure
}
