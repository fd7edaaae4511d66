-- How strongly tissue is coloured: fading stains and scanners' colour profiles show here first.
alter table run_quality add column saturation real;           -- mean of HSV's over tissue, 0..255
alter table run_quality add column saturation_distance real;  -- standard deviations from the bundle's
